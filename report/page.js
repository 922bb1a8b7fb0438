"use strict";
// Reviewing suspects in the page: marks by keyboard or buttons, and the review as a file.
// Nothing is sent anywhere; the page's own policy forbids it to.
(() => {
  const bar = document.getElementById("review");
  const tiles = [...document.querySelectorAll("li[data-cell]")];
  if (!bar || tiles.length === 0) return;

  const words = { clean: "kept", poisoned: "poisoned", skip: "skipped" };
  const store = "asd-review-" + bar.dataset.id;
  const status = document.getElementById("review-left");
  const marks = new Map(); // by sample, which is its cell in the file; a sample may have two tiles
  const undone = []; // [sample, mark before], the latest last
  let current = tiles[0];
  let unsaved = false;

  const samples = [...new Set(tiles.map((tile) => tile.dataset.cell))];
  const earlier = JSON.parse(bar.dataset.earlier); // [sample, verdict] without a tile

  function remember() {
    try {
      localStorage.setItem(store, JSON.stringify([...marks]));
      unsaved = false;
    } catch {
      unsaved = true; // then the browser asks before it leaves the page
    }
  }

  function recall() {
    for (const tile of tiles) {
      if (tile.dataset.mark) marks.set(tile.dataset.cell, tile.dataset.mark);
    }
    try {
      const kept = JSON.parse(localStorage.getItem(store) || "[]");
      for (const [sample, mark] of kept) {
        if (samples.includes(sample) && Object.hasOwn(words, mark)) marks.set(sample, mark);
      }
    } catch {
      // Nothing is kept, or something else is: then the review starts anew.
    }
  }

  function show(said) {
    for (const tile of tiles) {
      const mark = marks.get(tile.dataset.cell);
      if (mark) tile.dataset.mark = mark;
      else delete tile.dataset.mark;
      tile.tabIndex = tile === current ? 0 : -1;
    }
    const left = samples.filter((sample) => !marks.has(sample)).length;
    status.textContent = (said ? said + "; " : "") + `${left} of ${samples.length} left`;
  }

  function go(tile) {
    current = tile;
    show("");
    tile.focus();
    tile.scrollIntoView({ block: "nearest" });
  }

  function move(steps) {
    const place = tiles.indexOf(current) + steps;
    go(tiles[Math.min(Math.max(place, 0), tiles.length - 1)]);
  }

  function next() {
    const place = tiles.indexOf(current);
    const order = [...tiles.slice(place + 1), ...tiles.slice(0, place + 1)];
    go(order.find((tile) => !marks.has(tile.dataset.cell)) || current);
  }

  function mark(verdict) {
    const sample = current.dataset.cell;
    undone.push([sample, marks.get(sample)]);
    marks.set(sample, verdict);
    remember();
    next();
    show(words[verdict]);
  }

  function undo() {
    if (undone.length === 0) return;
    const [sample, before] = undone.pop();
    if (before) marks.set(sample, before);
    else marks.delete(sample);
    remember();
    go(tiles.find((tile) => tile.dataset.cell === sample));
    show("undone");
  }

  function file() {
    const text = (line) => new TextEncoder().encode(line);
    // A cell comes encoded, since the name of a file may hold bytes that are no text.
    const bytes = (cell) => Uint8Array.from(atob(cell), (sign) => sign.charCodeAt(0));
    const parts = [text("\ufefffile,verdict\n")];
    const marked = samples.map((sample) => [sample, marks.get(sample)]);
    for (const [sample, verdict] of [...earlier, ...marked]) {
      if (verdict && verdict !== "skip") parts.push(bytes(sample), text(`,${verdict}\n`));
    }
    return new Blob(parts, { type: "text/csv" });
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file());
    link.download = "review.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    show("review.csv saved");
  }

  const actions = {
    clean: () => mark("clean"),
    poisoned: () => mark("poisoned"),
    skip: () => mark("skip"),
    undo,
    save,
    next: () => (marks.has(current.dataset.cell) ? next() : go(current)),
  };
  const keys = {
    k: actions.clean,
    p: actions.poisoned,
    s: actions.skip,
    u: actions.undo,
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
  };

  document.addEventListener("keydown", (event) => {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const action = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (!plain || !action || !event.target.closest("li[data-cell]")) return;
    event.preventDefault();
    action();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    const tile = event.target.closest("li[data-cell]");
    if (button) actions[button.dataset.do]();
    else if (tile) go(tile);
  });
  addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });

  recall();
  current = tiles.find((tile) => !marks.has(tile.dataset.cell)) || tiles[0];
  show("");
  bar.hidden = false;
})();

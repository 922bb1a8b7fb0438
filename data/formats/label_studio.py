"""Label Studio: tasks with the model's opinion as predictions, and people's annotations.

`config.xml` is the labelling interface, with a key for each choice; `tasks.json` is imported. What
people decide comes back as Label Studio's JSON or JSON-MIN export (its CSV is a review as it is).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from data.formats.format import (
    CLEAN,
    POISONED,
    Format,
    Listing,
    Said,
    as_list,
    as_mapping,
    as_text,
    make_folder,
    rounded,
    verdicts_in,
    write_json,
)
from utils.files import write_text

CONTROL, IMAGE = "verdict", "image"
# How Label Studio serves files of the machine that it runs on, below its document root.
LOCAL = "/data/local-files/?d="
CONFIG = f"""<View>
  <Header value="given label: $given_label, the model's own: $own_label"/>
  <Image name="{IMAGE}" value="$image" zoom="true"/>
  <Choices name="{CONTROL}" toName="{IMAGE}" choice="single" showInline="true">
    <Choice value="{CLEAN}" hotkey="c"/>
    <Choice value="{POISONED}" hotkey="p"/>
  </Choices>
</View>
"""


class LabelStudio(Format):
    """`label_studio/tasks.json` and `config.xml`; exports are read back."""

    leaves = ("label_studio",)

    def write(self, listing: Listing, folder: Path) -> list[str]:
        """Write tasks and labelling interface; return a line."""
        ranked = enumerate(listing.order.tolist(), 1)
        tasks = [
            self._task(listing, rank, index, file)
            for rank, index in ranked
            if (file := listing.files[index]) is not None
        ]
        place = make_folder(folder / "label_studio")
        write_json(place / "tasks.json", tasks)
        write_text(place / "config.xml", CONFIG)
        lines = [f"for Label Studio: {place / 'tasks.json'}, and the interface in config.xml"]
        if len(tasks) < len(listing):
            left_out = len(listing) - len(tasks)
            lines.append(
                f"{left_out} verified images lie outside of the data set's folder; not in it"
            )
        return lines

    def _task(self, listing: Listing, rank: int, index: int, file: str) -> dict[str, Any]:
        """Return the task for one sample, of which `file` is the path below the served folder."""
        kept, suspicion = bool(listing.kept[index]), float(listing.score[index])
        choice = {
            "from_name": CONTROL,
            "to_name": IMAGE,
            "type": "choices",
            "value": {"choices": [CLEAN if kept else POISONED]},
        }
        return {
            "data": {
                IMAGE: LOCAL + quote(os.fsencode(file)),
                "file": listing.training.name(index),
                "given_label": listing.label(index),
                "own_label": listing.own_label(index),
                "rank": rank,
                "suspicion": rounded(suspicion),
            },
            "predictions": [
                {
                    "model_version": "asd",
                    # Of the choice, as Label Studio reads it: how sure the model is.
                    "score": rounded(1 - suspicion if kept else suspicion),
                    "result": [choice],
                }
            ],
        }

    def read(self, content: Any, classes: Sequence[str]) -> Iterator[Said] | None:
        """Yield verdicts of a JSON export: of annotations alone, never of predictions."""
        tasks = [as_mapping(task) for task in as_list(content)]
        is_ours = any("data" in task or IMAGE in task for task in tasks)
        return read_tasks(tasks) if is_ours else None


def read_tasks(tasks: list[dict[str, Any]]) -> Iterator[Said]:
    """Yield the verdicts of tasks, in whichever of the two layouts (JSON, JSON-MIN)."""
    for number, task in enumerate(tasks):
        data = as_mapping(task.get("data")) or task
        annotations = map(as_mapping, as_list(task.get("annotations")))
        answered = (each for each in annotations if each.get("was_cancelled") is not True)
        words = [word for annotation in answered for word in chosen(annotation)]
        if "data" not in task:
            answer = task.get(CONTROL)
            words += [answer, *as_list(as_mapping(answer).get("choices"))]
        names = (as_text(data.get("file")), *file_of(as_text(data.get(IMAGE))))
        for verdict in verdicts_in(words):
            yield Said(f"task {number}", tuple(filter(None, names)), verdict)


def chosen(annotation: dict[str, Any]) -> list[Any]:
    """Return the choices of an annotation that answer the question about the sample."""
    return [
        choice
        for result in map(as_mapping, as_list(annotation.get("result")))
        if result.get("from_name") == CONTROL
        for choice in as_list(as_mapping(result.get("value")).get("choices"))
    ]


def file_of(address: str) -> list[str]:
    """Return what the address of an image says of its file."""
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query, errors="surrogateescape").get("d", [])
        return [*local, unquote(parts.path, errors="surrogateescape")]
    except ValueError:  # no address
        return []

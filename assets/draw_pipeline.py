"""Draw `assets/pipeline.svg`: how ASD divides and trains, for dark and light pages.

Run `python assets/draw_pipeline.py`; the standard library is enough. The figure is plain SVG text,
so that its colours can follow the reader's colour scheme, which a plotting library cannot do.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT = 1000, 592
CARD_WIDTH, CARD_TOP, CARD_HEIGHT, CARD_PADDING = 306, 332, 248, 16
SKETCH_TOP, SKETCH_BASE = 490, 554
LINE = 18

TITLE = "ASD: adaptively splitting a poisoned dataset"
DESCRIPTION = (
    "In each epoch the loss of every sample of the poisoned training set is measured, and the set "
    "is split into a clean pool, whose labels are kept, and a polluted pool, whose labels are "
    "dropped. MixMatch trains one model on both pools, and that model measures the losses of the "
    "next epoch. Stage 1, class-aware and loss-guided, epochs 0 to 59: the clean pool is 10 "
    "verified seeds per class and the k lowest losses of each class; k grows from 0 by n = 10 "
    "every t = 5 epochs. Stage 2, class-agnostic and loss-guided, epochs 60 to 89: the lowest 50 % "
    "of all losses. Stage 3, meta-split, epochs 90 to 119: a virtual copy of the model trains for "
    "one epoch on all samples with their given labels; the clean pool is the 50 % whose loss falls "
    "least. Poisoned samples are learnt fast, so their loss falls most."
)

# Written out for both schemes: several SVG renderers know no CSS variables.
STYLE = """
    text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
           font-size: 13.5px; fill: #1f2328; }
    .heading { font-size: 16px; font-weight: 600; }
    .quiet { font-size: 13px; fill: #57606a; }
    .box { fill: #f6f8fa; stroke: #8c959f; stroke-width: 1.2; }
    .pool { fill: #d4e8f7; }
    .clean { stroke: #0067a3; fill: #0067a3; }
    .poisoned { stroke: #c04a00; fill: #c04a00; }
    .dropped { fill: none; }
    .mark { stroke-width: 1.5; }
    .line { stroke: #57606a; fill: none; stroke-width: 1.6; }
    .stem { stroke: #8c959f; fill: none; stroke-width: 1.2; }
    .head { fill: #57606a; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .quiet { fill: #9da7b1; }
      .box { fill: #161b22; stroke: #6e7681; }
      .pool { fill: #16395a; }
      .clean { stroke: #6cbcf5; fill: #6cbcf5; }
      .poisoned { stroke: #ff9d57; fill: #ff9d57; }
      .dropped { fill: none; }
      .line { stroke: #9da7b1; }
      .stem { stroke: #7d8590; }
      .head { fill: #9da7b1; }
    }
"""

ARROW_HEAD = (
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
    'markerHeight="7" orient="auto"><path class="head" d="M0 0L10 5L0 10Z"/></marker></defs>'
)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return one line of text whose baseline is at `y`."""
    return (
        f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">'
        f"{html.escape(words, quote=False)}</text>"
    )


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    """Return a box with round corners."""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>'
    )


def arrow(path: str) -> str:
    """Return an arrow along `path`, in SVG's path language."""
    return f'<path class="line" d="{path}" marker-end="url(#head)"/>'


def mark(x: float, y: float, kind: str, kept: bool) -> str:
    """Return the sign of one sample: shape and colour say what it is, hollow is without label.

    Args:
        x: centre.
        y: centre.
        kind: "c" clean, "s" verified seed, "p" poisoned.
        kept: whether its label is used.
    """
    colour = "poisoned" if kind == "p" else "clean"
    style = f'class="mark {colour}{"" if kept else " dropped"}"'
    if kind == "c":
        return f'<circle {style} cx="{x:g}" cy="{y:g}" r="4.5"/>'
    if kind == "s":
        return f'<rect {style} x="{x - 4:g}" y="{y - 4:g}" width="8" height="8"/>'
    return f'<path {style} d="M{x:g} {y - 5:g}L{x + 5.5:g} {y + 4:g}H{x - 5.5:g}Z"/>'


def row_of_marks(centre: float, y: float, kinds: str, kept: bool) -> list[str]:
    """Return a row of samples around `centre`."""
    first = centre - 17 * (len(kinds) - 1) / 2
    return [mark(first + 17 * place, y, kind, kept) for place, kind in enumerate(kinds)]


def block(
    x: float, y: float, width: float, height: float, words: Sequence[str], kind: str = "box"
) -> list[str]:
    """Return a box with a centred heading and lines below it."""
    centre = x + width / 2
    parts = [box(x, y, width, height, kind), text(centre, y + 28, words[0], "heading", "middle")]
    for number, line in enumerate(words[1:], start=1):
        parts.append(text(centre, y + 30 + LINE * number, line, "", "middle"))
    return parts


def loop() -> list[str]:
    """Return the upper half: what happens in each epoch."""
    parts = block(12, 66, 212, 128, ["Poisoned training set", "which samples is unknown"])
    parts += row_of_marks(118, 144, "ccccpccccc", kept=True)
    parts += row_of_marks(118, 168, "cpccccccpc", kept=True)
    split = [
        "Split",
        "in each epoch: measure",
        "the loss of every sample,",
        "divide all samples anew",
    ]
    parts += block(278, 80, 196, 100, split)
    parts += block(532, 14, 196, 102, ["Clean pool", "labels kept"], "box pool")
    parts += row_of_marks(630, 92, "ccccccccc", kept=True)
    parts += block(532, 144, 196, 102, ["Polluted pool", "labels dropped"])
    parts += row_of_marks(630, 222, "ccpcccpccpc", kept=False)
    train = [
        "MixMatch",
        "trains one model on both:",
        "labelled clean pool,",
        "unlabelled polluted pool",
    ]
    parts += block(786, 80, 202, 100, train)
    return parts + loop_arrows()


def loop_arrows() -> list[str]:
    """Return the arrows of the upper half and the words at them."""
    return [
        arrow("M224 130H274"),
        arrow("M474 115C509 115 494 66 528 66"),
        arrow("M474 145C509 145 494 194 528 194"),
        arrow("M728 66C763 66 748 115 782 115"),
        arrow("M728 194C763 194 748 145 782 145"),
        arrow("M887 180V268Q887 278 877 278H386Q376 278 376 268V184"),
        text(
            631, 268, "the trained model measures the losses of the next epoch", "quiet", "middle"
        ),
    ]


def legend() -> list[str]:
    """Return what the marks mean."""
    parts = []
    entries = [
        (20, 222, "c", True, "clean sample"),
        (20, 246, "s", True, "verified clean seed"),
        (20, 270, "p", True, "poisoned sample"),
    ]
    for x, y, kind, kept, words in entries:
        parts += [mark(x, y, kind, kept), text(x + 14, y + 4.5, words, "quiet")]
    for y, kept, words in [(222, True, "filled: label kept"), (246, False, "hollow: dropped")]:
        parts += [mark(190, y, "c", kept), mark(205, y, "p", kept)]
        parts.append(text(219, y + 4.5, words, "quiet"))
    parts += [box(183, 261, 29, 18, "pool"), text(219, 274.5, "in the clean pool", "quiet")]
    return parts


def stems(x: float, kinds: str, lengths: Sequence[int], kept: int, hang: bool = False) -> list[str]:
    """Return one stem a sample, with its mark at the end, and a shade behind the clean pool.

    Args:
        x: left edge.
        kinds: the samples, see `mark`.
        lengths: of the stems.
        kept: how many, from the left, make the clean pool.
        hang: whether the stems hang from the top and not stand on the ground.
    """
    step, base = 15, SKETCH_TOP if hang else SKETCH_BASE
    height = SKETCH_BASE - SKETCH_TOP
    parts = [box(x, SKETCH_TOP - 3, step * kept, height + 6, "pool")]
    for place, (kind, length) in enumerate(zip(kinds, lengths, strict=True)):
        centre, tip = x + step * (place + 0.5), base + length if hang else base - length
        end = tip - 4 if hang else tip + 4  # outside the mark, which may be hollow
        parts.append(f'<path class="stem" d="M{centre:g} {base}V{end}"/>')
        parts.append(mark(centre, tip, kind, place < kept))
    parts.append(f'<path class="stem" d="M{x:g} {base}h{step * len(kinds)}"/>')
    return parts


def stage_left(number: int) -> int:
    """Return where the words in the card of stage `number` begin."""
    return 12 + CARD_PADDING + (number - 1) * (WIDTH - 24 - CARD_WIDTH) // 2


def card(number: int, name: str, epochs: str, lines: Sequence[str], measure: str) -> list[str]:
    """Return a stage's card without its sketch; `measure` says what the stems' length is."""
    left = stage_left(number)
    parts = [
        box(left - CARD_PADDING, CARD_TOP, CARD_WIDTH, CARD_HEIGHT),
        text(left, CARD_TOP + 24, f"Stage {number}: {name}", "heading"),
        text(left, CARD_TOP + 44, epochs, "quiet"),
        text(left, SKETCH_TOP - 10, f"stem length: {measure}", "quiet"),
    ]
    for place, line in enumerate(lines):
        parts.append(text(left, CARD_TOP + 68 + LINE * place, line))
    return parts


def first_stage() -> list[str]:
    """Return the card of the class-aware split, with three classes sketched."""
    lines = [
        "10 verified seeds per class",
        "and the k lowest losses per class;",
        "k grows from 0 by n = 10",
        "every t = 5 epochs",
    ]
    parts = card(1, "class-aware", "loss-guided, epochs 0\u201359", lines, "loss")
    samples = [
        ("sscccc", (14, 10, 12, 18, 34, 46)),
        ("ssccpp", (10, 18, 14, 20, 48, 58)),
        ("sscccc", (12, 16, 10, 16, 26, 52)),
    ]
    for number, (kinds, lengths) in enumerate(samples):
        left = stage_left(1) + 92 * number
        parts += stems(left, kinds, lengths, kept=4)
        parts.append(text(left + 45, SKETCH_BASE + 17, f"class {number + 1}", "quiet", "middle"))
    return parts


def second_stage() -> list[str]:
    """Return the card of the class-agnostic split."""
    lines = [
        "the lowest 50 % of all losses,",
        "whatever the class: the clean pool",
        "grows to half of the training set",
    ]
    lengths = (8, 9, 10, 11, 12, 14, 15, 17, 19, 22, 25, 28, 32, 37, 42, 47, 53, 59)
    left = stage_left(2)
    return [
        *card(2, "class-agnostic", "loss-guided, epochs 60\u201389", lines, "loss"),
        *stems(left, "ccccccccccccpccpcp", lengths, kept=9),
        text(left + 67, SKETCH_BASE + 17, "lowest losses", "quiet", "middle"),
        text(left + 202, SKETCH_BASE + 17, "highest losses", "quiet", "middle"),
    ]


def third_stage() -> list[str]:
    """Return the card of the meta-split."""
    lines = [
        "train a virtual copy for one epoch on",
        "all samples with their given labels;",
        "keep the 50 % whose loss falls least:",
        "poison is learnt fast, its loss falls most",
    ]
    lengths = (7, 8, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 23, 26, 30, 48, 54, 59)
    left = stage_left(3)
    return [
        *card(3, "meta-split", "epochs 90\u2013119", lines, "fall of the loss"),
        *stems(left, "cccccccccccccccppp", lengths, kept=9, hang=True),
        text(left + 67, SKETCH_BASE + 17, "falls least", "quiet", "middle"),
        text(left + 202, SKETCH_BASE + 17, "falls most", "quiet", "middle"),
    ]


def stages() -> list[str]:
    """Return the lower half: how each stage chooses the clean pool."""
    parts = [text(12, 319, "Three stages: what the split puts into the clean pool", "heading")]
    parts += first_stage() + second_stage() + third_stage()
    for number in (2, 3):
        end = stage_left(number) - CARD_PADDING
        parts.append(arrow(f"M{end - 28} {CARD_TOP + CARD_HEIGHT / 2:g}H{end - 3}"))
    return parts


def drawing() -> str:
    """Return the whole SVG file."""
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-labelledby="title description">'
    )
    head = [
        f'<title id="title">{TITLE}</title>',
        f'<desc id="description">{DESCRIPTION}</desc>',
        f"<style>{STYLE}</style>",
        ARROW_HEAD,
    ]
    return "\n".join([opening, *head, *loop(), *legend(), *stages(), "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_name("pipeline.svg").write_text(drawing(), encoding="utf-8")

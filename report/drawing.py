"""Drawing a chart: inline SVG that takes its colours and its type from the page.

Each is drawn at the width of a phone, so that its text can be read there; on a wide screen two
stand side by side.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

Row = Mapping[str, Any]
Draw = Callable[[Axes], None]

# Matplotlib knows no CSS: it draws in these colours, and the page's variables take their places.
INK, SHADE = "#010203", "#040506"
BLUE, ORANGE, GREEN, PALE = "#070809", "#0a0b0c", "#0d0e0f", "#101112"
VARIABLES = {
    INK: "currentColor",
    SHADE: "var(--shade)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    PALE: "var(--pale)",
}
# Curves differ in style, too, for those who see no colours.
LOOKS = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (INK, ":"))

SIZE = (4.6, 3.0)  # inches, which at 72 points each is about a phone's width in CSS pixels
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "asd",  # the same content gives the same bytes
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
}
FEW_POINTS = 30  # up to so many, each is marked


@dataclass(frozen=True)
class Chart:
    """A chart and what it says in words.

    Attributes:
        title: above it.
        summary: for those who do not see it.
        svg: an `svg` element, whose ids no other chart of the page has.
    """

    title: str
    summary: str
    svg: str


@dataclass(frozen=True)
class Stage:
    """Epochs in a row that belong to one stage; both ends included."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Curve:
    """A quantity by epoch, where it was measured."""

    label: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def percent(share: float, decimals: int = 1) -> str:
    """Return a share of 1 as a percentage."""
    return f"{share * 100:.{decimals}f}\u00a0%"


def number(row: Row, key: str) -> float | None:
    """Return a cell of the log; None where nothing was measured."""
    cell = row.get(key)
    return None if cell is None or cell == "" else float(cell)


def epoch_of(row: Row) -> int:
    """Return the 0-based number of a row's epoch."""
    return int(row["epoch"])


def find_stages(rows: Sequence[Row]) -> list[Stage]:
    """Return the stages in the order of the log."""
    runs = [list(run) for _, run in itertools.groupby(rows, key=lambda row: str(row["stage"]))]
    return [Stage(str(run[0]["stage"]), epoch_of(run[0]), epoch_of(run[-1])) for run in runs]


def find_curve(rows: Sequence[Row], key: str, label: str) -> Curve:
    """Return one column of the log."""
    known = [(epoch_of(row), value) for row in rows if (value := number(row, key)) is not None]
    return Curve(label, tuple(epoch for epoch, _ in known), tuple(value for _, value in known))


def inline(figure: Figure, name: str) -> str:
    """Return `figure` as an `svg` element: as wide as its place, in the page's colours.

    Args:
        figure: drawn in the colours above.
        name: of the chart; it makes the ids unique.
    """
    text = StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]  # no XML declaration within HTML
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"\bid=\"|url\(#|href=\"#", lambda found: f"{found[0]}{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*|font: (\S+) [^;\"]*", font_size_only, svg)
    return re.sub(r"^<svg[^>]*? (viewBox=\"[^\"]*\")[^>]*>", r"<svg \1 aria-hidden='true'>", svg)


def font_size_only(found: re.Match[str]) -> str:
    """Return a font's declaration without its family: the text is in the page's."""
    return f"font-size: {found[1]}" if found[1] else "font-family: inherit"


def draw_chart(name: str, title: str, summary: str, draw: Draw) -> Chart:
    """Return the chart that `draw` fills.

    Args:
        name: unique on the page.
        title: above it.
        summary: of what it shows.
        draw: draws on the axes it is given.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(labels), fontsize=9.5)
        return Chart(title, summary, inline(figure, name))


def shade_stages(axes: Axes, stages: Sequence[Stage]) -> None:
    """Shade every other stage, and name those wide enough for it."""
    axes.set_xlim(stages[0].first - 0.5, stages[-1].last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))
    axes.set_xlabel("epoch")
    total = stages[-1].last - stages[0].first + 1
    for place, stage in enumerate(stages):
        start, end = stage.first - 0.5, stage.last + 0.5
        if place % 2:
            axes.axvspan(start, end, color=SHADE, linewidth=0, zorder=0)
        if (end - start) / total > 0.18:
            middle, name = (start + end) / 2, stage.name.replace("-", "-\n")
            transform = axes.get_xaxis_transform()
            axes.text(middle, 0.98, name, transform=transform, fontsize=8.5, ha="center", va="top")


def draw_curves(axes: Axes, curves: Sequence[Curve], looks: Sequence[tuple[str, str]]) -> None:
    """Draw curves, each in its look: colour and line style."""
    for curve, (colour, style) in zip(curves, looks, strict=False):
        marker = "o" if len(curve.epochs) <= FEW_POINTS else ""
        axes.plot(
            curve.epochs,
            curve.values,
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=3,
            label=curve.label,
            clip_on=False,
        )


def as_fractions(axes: Axes) -> None:
    """Let the y axis go from 0 to 100 %, with room for the stages' names above."""
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))


def logarithmic(axis: Axis, spread: float) -> None:
    """Number a logarithmic axis: 0.1, 1, 10 and, if it spans little, 0.2, 0.5 and so on, too."""
    axis.set_major_locator(LogLocator(subs=(1.0,) if spread > 30 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def tell(curves: Sequence[Curve], shown: Callable[[float], str]) -> str:
    """Return in words where each curve starts and ends."""
    parts = []
    for curve in curves:
        last = f"{shown(curve.values[-1])} in epoch {curve.epochs[-1]}"
        first = f"{shown(curve.values[0])} in epoch {curve.epochs[0]}, "
        parts.append(f"{curve.label} {first if len(curve.epochs) > 1 else ''}{last}")
    return "; ".join(parts) + "."

"""The charts of the report: inline SVG that takes its colours and its type from the page.

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
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from report.findings import Findings

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
SPREAD = 20  # of losses beyond which they are drawn on a logarithmic axis; L_u is far below L_x
BINS = 40
LEAST_LOSS = 1e-4  # of a histogram's axis, which is logarithmic


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


def curves_chart(
    name: str, title: str, rows: Sequence[Row], columns: Mapping[str, str]
) -> Chart | None:
    """Return fractions of 1 by epoch; None where none was measured.

    Args:
        name: of the chart.
        title: above it.
        rows: of the log.
        columns: of the log, each with its label.
    """
    curves = [find_curve(rows, key, label) for key, label in columns.items()]
    known = [curve for curve in curves if curve.epochs]
    if not known:
        return None
    # A quantity keeps its look where another one is missing.
    looks = [look for curve, look in zip(curves, LOOKS, strict=False) if curve.epochs]

    def draw(axes: Axes) -> None:
        as_fractions(axes)
        shade_stages(axes, find_stages(rows))
        draw_curves(axes, known, looks)

    return draw_chart(name, title, tell(known, percent), draw)


def score_chart(rows: Sequence[Row], knows_truth: bool) -> Chart | None:
    """Return ACC by epoch and, under a known attack, ASR."""
    title, columns = "Accuracy on images that were not trained on (ACC)", {"acc": "ACC"}
    if knows_truth:
        title = "Accuracy (ACC) and attack success rate (ASR)"
        columns["asr"] = "ASR"
    return curves_chart("scores", title, rows, columns)


def quality_chart(rows: Sequence[Row]) -> Chart | None:
    """Return how well the pools hold clean and poisoned samples apart; needs the truth."""
    pure = [{**row, "purity": purity(row)} for row in rows]
    columns = {"purity": "purity", "tpr": "TPR", "fpr": "FPR", "auroc": "AUROC"}
    return curves_chart("quality", "Quality of the split, by the truth", pure, columns)


def purity(row: Row) -> float | None:
    """Return the share of unpoisoned samples in an epoch's clean pool."""
    pool, missed = number(row, "clean_pool"), number(row, "poisoned_in_clean_pool")
    return None if not pool or missed is None else 1 - missed / pool


def loss_chart(rows: Sequence[Row]) -> Chart | None:
    """Return the losses of training by epoch; None before the first epoch."""
    columns = {"loss": "loss", "loss_x": "L_x (clean pool)", "loss_u": "L_u (polluted pool)"}
    curves = [find_curve(rows, key, label) for key, label in columns.items()]
    known = [curve for curve in curves if curve.epochs]
    if not known:
        return None
    values = [value for curve in known for value in curve.values]

    def draw(axes: Axes) -> None:
        shade_stages(axes, find_stages(rows))
        draw_curves(axes, known, LOOKS)
        least, most = min(values), max(values)
        if 0 < SPREAD * least < most:
            axes.set_yscale("log")
            logarithmic(axes.yaxis, most / least)
            axes.set_ylim(top=1.2 * most * (most / least) ** 0.3)  # room for the stages' names
        else:
            axes.set_ylim(min(0, 1.1 * least), 1.4 * max(most, LEAST_LOSS))

    return draw_chart("losses", "Losses of training", tell(known, "{:.3g}".format), draw)


def pool_chart(rows: Sequence[Row], total: int, knows_truth: bool) -> Chart | None:
    """Return the sizes of both pools by epoch and, with the truth, the poison in the clean one.

    Args:
        rows: of the log.
        total: training samples.
        knows_truth: whether the log tells what is poisoned.
    """
    pool = find_curve(rows, "clean_pool", "clean pool")
    missed = find_curve(rows if knows_truth else [], "poisoned_in_clean_pool", "poisoned in it")
    if not pool.epochs:
        return None

    def draw(axes: Axes) -> None:
        # A pool holds for the whole epoch: steps, not slopes.
        edges = [pool.epochs[0] - 0.5, *(epoch + 0.5 for epoch in pool.epochs)]
        axes.set_ylim(0, 1.3 * total)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        shade_stages(axes, find_stages(rows))
        base = missed.values or 0
        axes.stairs(pool.values, edges, baseline=base, fill=True, color=BLUE, label=pool.label)
        if missed.epochs:
            axes.stairs(missed.values, edges, fill=True, color=ORANGE, label=missed.label)
        full = [total] * len(pool.epochs)
        axes.stairs(full, edges, baseline=pool.values, fill=True, color=PALE, label="polluted pool")

    shown = [curve for curve in (pool, missed) if curve.epochs]
    summary = f"Of {total:,} samples: {tell(shown, '{:,.0f}'.format)}"
    return draw_chart("pools", "Samples in both pools", summary, draw)


def histograms(findings: Findings) -> list[Chart]:
    """Return a histogram of all samples' losses for each stage, at its last split."""
    truth = None if findings.poisoned is None else findings.poisoned.cpu().numpy()
    return [
        histogram(f"histogram-{place}", stage, losses.cpu().numpy(), truth)
        for place, (stage, losses) in enumerate(findings.history.losses.items())
    ]


def loss_edges(losses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the edges of a histogram's bins, evenly spaced on a logarithmic axis."""
    low, high = np.percentile(losses, [0.2, 100]).clip(LEAST_LOSS)
    return np.geomspace(low, max(high, 2 * low), BINS + 1)


def histogram(
    name: str, stage: str, losses: NDArray[np.float32], truth: NDArray[np.bool_] | None
) -> Chart:
    """Return the distribution of losses, split by the truth where that is known.

    Args:
        name: of the chart.
        stage: after whose last split the losses were kept.
        losses: (N,).
        truth: (N,), which are poisoned; None where nobody knows.
    """
    edges = loss_edges(losses)
    groups = {"all samples": losses}
    if truth is not None and truth.any():
        groups = {"clean": losses[~truth], "poisoned": losses[truth]}
    groups = {label: group for label, group in groups.items() if len(group)}

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        logarithmic(axes.xaxis, edges[-1] / edges[0])
        axes.set_xlabel("loss for the given label")
        axes.set_ylabel("share of samples")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))
        for (label, group), colour in zip(groups.items(), (BLUE, ORANGE), strict=False):
            counts, _ = np.histogram(group.clip(edges[0], edges[-1]), edges)
            shares = counts / len(group)
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(shares, edges, color=colour, linestyle=dict(LOOKS)[colour], label=label)
        axes.set_ylim(bottom=0)

    medians = [f"median of {label} {np.median(group):.3g}" for label, group in groups.items()]
    return draw_chart(name, f"Losses, {stage}", "; ".join(medians) + ".", draw)

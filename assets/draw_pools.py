"""Draw from a run's log how the clean pool, ACC, ASR and the TPR of the split went.

Run `python assets/draw_pools.py storage/NAME/log.csv OUT.svg`. The same log gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLUMNS = ("epoch", "stage", "clean_pool", "poisoned_in_clean_pool", "tpr", "acc", "asr")

# Okabe and Ito's colours, which the colour-blind tell apart; the lines differ in style, too.
BLUE, PALE_BLUE, ORANGE, GREEN = "#0072B2", "#8FCBEF", "#D55E00", "#009E73"
SHADES = ("#F3F3F3", "#E4E4E4")
TEXT = "#1F2328"

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "asd",
    "font.size": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class BadLog(Exception):
    """The log is not one that this script can draw; the message is one line."""


@dataclass(frozen=True)
class Epoch:
    """One row of the log; what was not measured in that epoch is None."""

    epoch: int
    stage: str
    clean_pool: int
    poisoned: int
    tpr: float | None
    acc: float | None
    asr: float | None


def read_epoch(row: dict[str, str | None]) -> Epoch:
    """Return `row` as numbers.

    Raises:
        ValueError: a cell is no number.
    """
    cells = {name: (row[name] or "").strip() for name in COLUMNS}
    tpr, acc, asr = (float(cells[name]) if cells[name] else None for name in COLUMNS[4:])
    return Epoch(
        int(cells["epoch"]),
        cells["stage"],
        int(cells["clean_pool"]),
        int(cells["poisoned_in_clean_pool"]),
        tpr,
        acc,
        asr,
    )


def parse_log(file: TextIO) -> list[Epoch]:
    """Return the epochs in `file`.

    Raises:
        BadLog: it lacks a column, holds no row, or a cell is no number.
    """
    rows = csv.DictReader(file)
    try:
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
        if missing:
            raise BadLog(f"no column {', '.join(missing)}; is it the log of a run under attack?")
        epochs = [read_epoch(row) for row in rows]
    except (ValueError, csv.Error) as error:
        raise BadLog(f"line {rows.line_num} is not a run's ({error})") from error
    if not epochs:
        raise BadLog("holds no epoch")
    return epochs


def read_log(path: Path) -> list[Epoch]:
    """Return the epochs of the log at `path`, or raise `BadLog`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return parse_log(file)
    except OSError as error:
        raise BadLog(f"{path}: cannot be read ({error.strerror})") from error
    except BadLog as error:
        raise BadLog(f"{path}: {error}") from error


def shade_stages(axes: Axes, epochs: list[Epoch]) -> None:
    """Shade the stages in turn and name each at the top of the panel."""
    runs = [list(run) for _, run in itertools.groupby(epochs, key=lambda row: row.stage)]
    for number, run in enumerate(runs):
        start, end = run[0].epoch - 0.5, run[-1].epoch + 0.5
        axes.axvspan(start, end, color=SHADES[number % 2], linewidth=0, zorder=0)
        if number:
            axes.axvline(start, color=TEXT, linewidth=0.8, linestyle=":", zorder=3)
        is_narrow = len(run) < 0.13 * len(epochs)
        axes.text(
            (start + end) / 2,
            0.97,
            run[0].stage.replace("-", "-\n") if is_narrow else run[0].stage,
            transform=axes.get_xaxis_transform(),
            fontsize=8 if is_narrow else 10,
            ha="center",
            va="top",
            zorder=4,
        )


def poison_label(epochs: list[Epoch]) -> str:
    """Return the legend's words for the poisoned samples, which may be too few to be seen."""
    worst = max(epochs, key=lambda row: row.poisoned)
    if worst.poisoned == 0:
        return "poisoned samples in it: none in any epoch"
    return f"poisoned samples in it: at most {worst.poisoned:,} (epoch {worst.epoch})"


def draw_pool(axes: Axes, epochs: list[Epoch]) -> None:
    """Draw the clean pool as stacked areas, the poisoned samples at the bottom."""
    # A pool holds for the whole epoch: steps, not slopes.
    edges = [row.epoch - 0.5 for row in epochs] + [epochs[-1].epoch + 0.5]
    poisoned = [row.poisoned for row in epochs]
    pool = [row.clean_pool for row in epochs]
    clean_label = "clean samples in the clean pool"
    axes.stairs(pool, edges, baseline=poisoned, fill=True, color=PALE_BLUE, label=clean_label)
    axes.stairs(poisoned, edges, fill=True, color=ORANGE, label=poison_label(epochs))
    axes.set_ylim(0, 1.25 * max(*pool, 1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("samples")


def draw_curve(
    axes: Axes, epochs: list[Epoch], values: list[float | None], label: str, look: tuple[str, str]
) -> None:
    """Draw one curve through the epochs that have a value; `look` is its colour and line style."""
    points = [(row.epoch, value) for row, value in zip(epochs, values, strict=True)]
    known = [(epoch, value) for epoch, value in points if value is not None]
    axes.plot(
        [epoch for epoch, _ in known],
        [value for _, value in known],
        color=look[0],
        linestyle=look[1],
        linewidth=1.8,
        # Few points are easily taken for one curve without gaps.
        marker="o" if len(known) < max(len(epochs), 2) else "",
        markersize=4,
        clip_on=False,
        label=label if known else f"{label}: not measured",
    )


def draw_rates(axes: Axes, epochs: list[Epoch]) -> None:
    """Draw ACC, ASR and TPR."""
    acc, asr, tpr = ([getattr(row, name) for row in epochs] for name in ("acc", "asr", "tpr"))
    draw_curve(axes, epochs, acc, "ACC (clean test images)", (BLUE, "-"))
    draw_curve(axes, epochs, asr, "ASR (attack success)", (ORANGE, "--"))
    draw_curve(axes, epochs, tpr, "TPR (poison kept out of the clean pool)", (GREEN, "-."))
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylabel("fraction")
    axes.set_xlabel("epoch")


def draw(epochs: list[Epoch]) -> Figure:
    """Return the figure: the clean pool above, the rates below."""
    figure = Figure(figsize=(9, 5.5), facecolor="white", layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    draw_pool(upper, epochs)
    draw_rates(lower, epochs)
    upper.set_xlim(epochs[0].epoch - 0.5, epochs[-1].epoch + 0.5)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (upper, lower):
        shade_stages(axes, epochs)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return figure


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description="Draw a run's pools, ACC, ASR and TPR as SVG.")
    parser.add_argument("log", type=Path, help="log.csv of a run under an attack")
    parser.add_argument("out", type=Path, help="SVG file to write")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and return the exit code."""
    arguments = parse(argv)
    try:
        with mpl.rc_context(STYLE):
            figure = draw(read_log(arguments.log))
            # Neither date nor version, so that only the log decides the bytes.
            metadata = {"Date": None, "Creator": None, "Title": "Pools and scores by epoch"}
            figure.savefig(arguments.out, format="svg", metadata=metadata)
    except BadLog as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {arguments.out}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

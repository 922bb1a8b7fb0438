"""The charts of the report: scores, losses and pools by epoch, and losses by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from report.drawing import (
    BLUE,
    LOOKS,
    ORANGE,
    PALE,
    Chart,
    Row,
    as_fractions,
    draw_chart,
    draw_curves,
    find_curve,
    find_stages,
    logarithmic,
    number,
    percent,
    shade_stages,
    tell,
)
from report.findings import Findings

SPREAD = 20  # of losses beyond which they are drawn on a logarithmic axis; L_u is far below L_x
BINS = 40
LEAST_LOSS = 1e-4  # of a histogram's axis, which is logarithmic


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
    title, columns = "Accuracy on the test images (ACC)", {"acc": "ACC"}
    if knows_truth:
        title = "Accuracy (ACC) and attack success rate (ASR)"
        columns["asr"] = "ASR"
    return curves_chart("scores", title, rows, columns)


def quality_chart(rows: Sequence[Row]) -> Chart | None:
    """Return how well the pools hold clean and poisoned samples apart; needs the truth."""
    pure = [{**row, "purity": purity(row)} for row in rows]
    columns = {"purity": "purity", "tpr": "TPR", "fpr": "FPR", "auroc": "AUROC"}
    return curves_chart("quality", "Quality of the split, by the truth", pure, columns)


def share_chart(rows: Sequence[Row]) -> Chart | None:
    """Return by what the kept share was found, by epoch; None where it was given."""
    columns = {
        "kept_share": "kept",
        "agreed_share": "the model agrees",
        "objected_share": "objected to",
    }
    gaps = find_curve(rows, "reduction_gap", "gap").values
    since = f", from {gaps[-1]:.3g} nats of reduction on at last" if gaps else ""
    return curves_chart("shares", f"Labels kept, agreed with and objected to{since}", rows, columns)


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

"""The table as a picture: ACC and ASR side by side, a field a cell."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from command.table import Table, title
from utils.files import write_atomically

# What is better is green in both: much ACC, little ASR.
PANELS = (
    ("acc", "ACC in %: higher is better", "RdYlGn"),
    ("asr", "ASR in %: lower is better", "RdYlGn_r"),
)
CELL_WIDTH, CELL_HEIGHT = 0.85, 0.42  # inches
DARK = 0.3  # of the scale's ends, beyond which text is white


def draw_panel(axes: Axes, table: Table, key: str, caption: str, colours: str) -> None:
    """Draw the means of `acc` or `asr`; a cell without one is grey."""
    means = [[table.mean(row, column, key) for column in table.columns] for row in table.rows]
    values = np.array([[np.nan if m is None else 100 * m for m in row] for row in means], float)
    axes.set_facecolor("0.85")
    axes.imshow(values, cmap=colours, vmin=0, vmax=100, aspect="auto")
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        extreme = min(value, 100 - value) < 100 * DARK / 2
        colour = "white" if extreme else "black"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(table.columns)), [title(column) for column in table.columns])
    axes.set_yticks(range(len(table.rows)), table.rows)
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(caption, fontsize=9)


def draw_table(table: Table) -> Figure:
    """Return the picture."""
    width = 2 * (1.2 + CELL_WIDTH * len(table.columns))
    figure = Figure(figsize=(width, 1.0 + CELL_HEIGHT * len(table.rows)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, (key, caption, colours) in zip((left, right), PANELS, strict=True):
        draw_panel(axes, table, key, caption, colours)
    right.set_yticks([])
    return figure


def write_table_picture(table: Table, path: Path) -> Path:
    """Write the picture as PNG, whole or not at all."""
    buffer = BytesIO()
    draw_table(table).savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return path

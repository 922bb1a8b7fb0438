"""The paper's table: attacks down, defences across, ACC / ASR in each cell.

As text, Markdown, CSV and JSON; `command/table_picture.py` draws it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from command.cells import Cell, as_record
from command.jobs import FINISHED
from command.published import Figure
from utils.files import write_text
from utils.tables import table_text

AVERAGE = "average"
SHORT_NAMES = {"none": "no defence", "fine_pruning": "FP"}
Grid = dict[tuple[str, str], Cell]


def title(column: str) -> str:
    """Return a defence's name as a table's head has it."""
    return SHORT_NAMES.get(column, column.upper())


def in_percent(mean: float | None, spread: float | None = None) -> str:
    """Return a figure in percent, perhaps with its spread."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def in_minutes(seconds: float | None) -> str:
    """Return a time for people."""
    return "-" if seconds is None else f"{seconds / 60:.1f}"


class Table:
    """The cells as a grid, and the ways to write it down.

    Args:
        cells: in the order in which rows and columns shall stand.
        figures: what has been published.
    """

    def __init__(self, cells: Sequence[Cell], figures: list[Figure]) -> None:
        self.cells, self.figures = list(cells), figures
        self.grid: Grid = {(cell.row, cell.column): cell for cell in cells}
        self.rows = list(dict.fromkeys(cell.row for cell in cells))
        self.columns = list(dict.fromkeys(cell.column for cell in cells))

    def averages(self, key: str, column: str) -> float | None:
        """Return the mean over the attacks; None while one of them is missing."""
        means = [self.mean(row, column, key) for row in self.rows]
        known = [mean for mean in means if mean is not None]
        return statistics.fmean(known) if known and len(known) == len(means) else None

    def mean(self, row: str, column: str, key: str) -> float | None:
        """Return a cell's figure; None where there is none."""
        cell = self.grid.get((row, column))
        return None if cell is None else cell.mean(key)

    def score(self, row: str, column: str) -> str:
        """Return a cell as `ACC / ASR`, or how it failed."""
        cell = self.grid.get((row, column))
        if cell is None:
            return ""
        if not cell.results:
            return cell.state
        both = [in_percent(cell.mean(key), cell.spread(key)) for key in ("acc", "asr")]
        remark = "" if cell.state == FINISHED else f" ({len(cell.results)} seeds)"
        return " / ".join(both) + remark

    def scores(self) -> list[list[str]]:
        """Return the rows of the main table, the averages last."""
        lines = [[row, *(self.score(row, column) for column in self.columns)] for row in self.rows]
        if len(self.rows) > 1:
            means = [
                " / ".join(in_percent(self.averages(key, column)) for key in ("acc", "asr"))
                for column in self.columns
            ]
            lines.append([AVERAGE, *means])
        return lines

    def minutes(self) -> list[list[str]]:
        """Return the rows of the table of times."""
        return [
            [row, *(in_minutes(self.mean(row, column, "seconds")) for column in self.columns)]
            for row in self.rows
        ]

    def distances(self) -> list[list[str]]:
        """Return a row for each cell that has a published figure: ours, theirs, the difference."""
        lines = []
        for record in self.records():
            theirs = [record[f"published_{key}"] for key in ("acc", "asr")]
            if theirs == [None, None]:
                continue
            ours = [record[f"{key}_mean"] for key in ("acc", "asr")]
            away = [record[f"distance_{key}"] for key in ("acc", "asr")]
            signed = ["-" if value is None else f"{100 * value:+.1f}" for value in away]
            place = [record["configuration"], title(record["defense"])]
            texts = [" / ".join(map(in_percent, pair)) for pair in (ours, theirs)]
            lines.append(
                [*place, *texts, " / ".join(signed), "fewer images" if record["reduced"] else ""]
            )
        return lines

    def records(self) -> list[dict[str, Any]]:
        """Return all cells as plain values."""
        return [as_record(cell, self.figures) for cell in self.cells]

    def written(self, style: str) -> str:
        """Return all parts one below the other, in a style of tabulate."""

        def draw(lines: list[list[str]], heads: list[str]) -> str:
            return tabulate(lines, heads, tablefmt=style, disable_numparse=True)

        heads = ["attack", *map(title, self.columns)]
        seeds = max((len(cell.results) for cell in self.cells), default=0)
        over = f", mean ± standard deviation of up to {seeds} seeds" if seeds > 1 else ""
        parts = [f"ACC / ASR in percent{over}", draw(self.scores(), heads)]
        parts += ["Minutes of training", draw(self.minutes(), heads)]
        if distances := self.distances():
            columns = ["attack", "defence", "here", "paper", "distance", "remark"]
            parts += ["ACC / ASR beside the paper's", draw(distances, columns)]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write text, Markdown, CSV and JSON into `folder`; return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        records = self.records()
        texts = {
            "table.txt": self.written("simple"),
            "table.md": self.written("github"),
            "table.csv": table_text(list(records[0]), records),
            "table.json": json.dumps(records, indent=1) + "\n",
        }
        for name, text in texts.items():
            write_text(folder / name, text)
        return [folder / name for name in texts]

"""The cells of a comparison: what one defence gave against one attack, over all its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from command.jobs import FINISHED, Job
from command.published import Figure, distance, published_for
from run.results import read_result

MEASURED = ("acc", "asr", "seconds")
NOT_YET = "not run"


@dataclass
class Cell:
    """One attack under one defence.

    Attributes:
        row: the configuration's name without a defence, e.g. small/badnets.
        column: the defence or repair.
        results: of the finished seeds, as `result.json` has them.
        states: of all seeds, finished or how they failed.
        reduced: whether fewer images than the data set's were trained on.
    """

    row: str
    column: str
    results: list[dict[str, Any]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    reduced: bool = False

    @property
    def state(self) -> str:
        """How it stands: finished, the first failure, or not run."""
        failed = [state for state in self.states if state != FINISHED]
        return failed[0] if failed else (FINISHED if self.states else NOT_YET)

    def known(self, key: str) -> list[float]:
        """Return the figures of the finished seeds, where they are known."""
        found = [result.get(key) for result in self.results]
        return [float(value) for value in found if value is not None]

    def mean(self, key: str) -> float | None:
        """Return the mean over the finished seeds; None where nothing is known."""
        known = self.known(key)
        return statistics.fmean(known) if known else None

    def spread(self, key: str) -> float | None:
        """Return the standard deviation of the seeds (n - 1); None of fewer than two."""
        known = self.known(key)
        return statistics.stdev(known) if len(known) > 1 else None

    def published(self, figures: list[Figure]) -> Figure | None:
        """Return the paper's figure, by the folder that the configuration lies in or its data."""
        if not self.results or "label_rule" in self.results[0]:  # the paper has one target
            return None
        result, folder = self.results[0], self.row.partition("/")[0]
        attack = str(result.get("attack"))
        for dataset in (folder, str(result.get("dataset"))):
            figure = published_for(figures, dataset, attack, self.column)
            if figure is not None:
                return figure
        return None


def gather_cells(jobs: Sequence[Job], states: Sequence[str]) -> list[Cell]:
    """Return the cells of a list of runs, in its order.

    Args:
        jobs: all runs.
        states: of those that were reached, in the same order.
    """
    cells: dict[tuple[str, str], Cell] = {}
    reached = [*states, *[None] * (len(jobs) - len(states))]
    for job, state in zip(jobs, reached, strict=True):
        cell = cells.setdefault((job.row, job.column), Cell(job.row, job.column))
        if job.config is not None:
            cell.reduced = job.config.data.train_samples is not None
        if state is not None:
            cell.states.append(state)
        if state == FINISHED:
            cell.results.append(read_result(job.folder.result))
    return list(cells.values())


def as_record(cell: Cell, figures: list[Figure]) -> dict[str, Any]:
    """Return a cell as plain values; ACC and ASR are fractions of 1."""
    record: dict[str, Any] = {
        "configuration": cell.row,
        "attack": cell.results[0].get("attack") if cell.results else None,
        "defense": cell.column,
        "state": cell.state,
        "seeds": len(cell.results),
    }
    for key in MEASURED:
        known = cell.known(key)
        record |= {f"{key}_mean": cell.mean(key), f"{key}_std": cell.spread(key)}
        record |= {f"{key}_min": min(known, default=None), f"{key}_max": max(known, default=None)}
    figure = cell.published(figures)
    away = distance(figure, {key: cell.mean(key) for key in ("acc", "asr")})
    record |= {f"published_{key}": getattr(figure, key, None) for key in ("acc", "asr")}
    record |= {f"distance_{key}": away.get(key) for key in ("acc", "asr")}
    return record | {"reduced": cell.reduced}

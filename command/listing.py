"""What a list of runs gave: a row a run, and over several seeds mean and range."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command.jobs import FINISHED, Job
from run.folder import RunFolder
from run.results import read_result
from utils.console import percent, say, table
from utils.files import read_regular, write_text
from utils.tables import table_text

MOST_LOG = 2**28  # bytes
# Columns of the table: key of a row, title on the screen.
COLUMNS = {
    "run": "run",
    "defense": "defence",
    "attack": "attack",
    "seed": "seed",
    "acc": "ACC",
    "asr": "ASR",
    "seconds": "seconds",
    "poisoned_in_clean_pool": "poisoned in clean pool",
    "verdict": "verdict",
    "suspects_auroc": "AUROC of suspects",
    "suspects_precision": "precision of suspects",
    "state": "state",
}
OF_RESULT = (
    "defense", "attack", "seed", "acc", "asr", "seconds",
    "verdict", "suspects_auroc", "suspects_precision",
)  # fmt: skip
OF_TRUTH = ("attack", "asr", "poisoned_in_clean_pool", "suspects_auroc", "suspects_precision")
# Figures that are told as mean and range over seeds, and how each is written.
OVER_SEEDS = {
    "acc": percent,
    "asr": percent,
    "suspects_auroc": "{:.4f}".format,
    "suspects_precision": percent,
}


def poisoned_at_the_end(folder: RunFolder) -> int | None:
    """Return the poisoned samples in the clean pool of the last epoch; None where not known."""
    try:
        text = read_regular(folder.path / "log.csv", MOST_LOG).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return int(rows[-1]["poisoned_in_clean_pool"])
    except (OSError, ValueError, TypeError, IndexError, KeyError, csv.Error):
        return None


def result_row(job: Job, state: str) -> dict[str, Any]:
    """Return the run's row of the table; figures of a finished run only."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"run": job.name, "state": state}
    if state == FINISHED:
        result = read_result(job.folder.result)
        row |= {key: result.get(key) for key in OF_RESULT}
        row["poisoned_in_clean_pool"] = poisoned_at_the_end(job.folder)
    return row


def known_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table's columns; those about the truth only where a run knows something of it."""
    return [
        key for key in COLUMNS if key not in OF_TRUTH or any(row[key] is not None for row in rows)
    ]


def written(key: str, value: Any) -> str:
    """Return a figure as the screen shows it."""
    if value is None:
        return "-"
    return OVER_SEEDS[key](value) if key in OVER_SEEDS else str(value)


def readable(row: dict[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Return a row as the screen shows it."""
    return {COLUMNS[key]: written(key, row[key]) for key in columns}


def over_seeds(
    jobs: Sequence[Job], rows: Sequence[dict[str, Any]], columns: Sequence[str]
) -> list[dict[str, str]]:
    """Return for each configuration its finished seeds, and mean and range of its figures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for job, row in zip(jobs, rows, strict=False):  # an interrupted list has fewer rows
        if row["state"] == FINISHED:
            groups.setdefault(job.group, []).append(row)
    summary = []
    for group, members in groups.items():
        line = {"configuration": group, "seeds": str(len(members))}
        for key in (key for key in OVER_SEEDS if key in columns):
            line[COLUMNS[key]] = mean_and_range(key, [row[key] for row in members])
        summary.append(line)
    return summary


def mean_and_range(key: str, figures: Sequence[float | None]) -> str:
    """Return mean, smallest and largest of the figures that are known, for the screen."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return "-"
    mean, low, high = (written(key, of(known)) for of in (statistics.fmean, min, max))
    return f"{mean} ({low} to {high})"


def write_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write the rows, ACC and ASR as fractions, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, table_text(columns, rows))


def report(jobs: Sequence[Job], rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Print the table and write it as CSV; print what several seeds have in common."""
    columns = known_columns(rows)
    write_csv(rows, columns, path)
    say(table([readable(row, columns) for row in rows], headers="keys"))
    if any(job.group != job.name for job in jobs):
        say("over the seeds, mean (smallest to largest):")
        say(table(over_seeds(jobs, rows, columns), headers="keys"))
    say(f"as CSV: {path}")

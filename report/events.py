"""The curves of a run for TensorBoard, where that is installed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.console import say
from utils.errors import TrainingError, why_refused
from utils.files import write_atomically

FILE = "events.out.tfevents.asd"  # TensorBoard reads any file with `tfevents` in its name
STEP = "epoch"  # the column that is the axis of all curves
_said = False  # that TensorBoard is missing


def write_events(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the numbers of all epochs to `folder`, in place of what an earlier call wrote there.

    All is written anew from the log, so a resumed run has each epoch once. Without TensorBoard a
    line says so, once, and nothing is written.

    Args:
        folder: made if need be.
        rows: of the log, one an epoch; texts and what was not measured are left out.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say_missing()
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            with SummaryWriter(place) as writer:
                for row, moment in zip(rows, moments(rows), strict=True):
                    for name, value in scalars(row).items():
                        writer.add_scalar(name, value, row[STEP], moment)
            (written,) = Path(place).iterdir()
            with open(written, "rb") as source:
                write_atomically(folder / FILE, lambda file: shutil.copyfileobj(source, file))
    except OSError as error:
        why = why_refused(error)
        raise TrainingError(f"{folder}: the events could not be written: {why}") from error


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch, without its own."""
    return {
        name: float(value)
        for name, value in row.items()
        if name != STEP and isinstance(value, (int, float))
    }


def moments(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return when each epoch ended, in seconds since 1970, as if the last one had ended now.

    So TensorBoard's relative time is the time of training, however often the run was resumed.
    """
    moment, found = time.time(), []
    for row in reversed(rows):
        found.append(moment)
        moment -= float(row.get("seconds") or 0)
    return found[::-1]


def say_missing() -> None:
    """Say once how to get the curves."""
    global _said
    if not _said:
        say("no TensorBoard events are written, since tensorboard is not installed")
    _said = True

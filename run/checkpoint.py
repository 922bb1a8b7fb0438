"""Checkpoints: whole or not at all, never executed, and honest about what is wrong with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from defense.history import History
from run.state import WEIGHTS, check_state
from utils.console import say
from utils.errors import InputError, TrainingError
from utils.files import write_atomically
from utils.torch_file import DamagedCheckpoint, read_tensors

LATEST, PREVIOUS, BEST = "latest_model.pt", "latest_model.previous.pt", "best_model.pt"
DAMAGED = "latest_model.damaged.pt"  # what was the latest, for who wants to look into it


@dataclass
class Progress:
    """How far a run has come; with the weights and the optimiser, all that it needs to go on.

    Random streams are functions of (seed, epoch, purpose) and need no state.

    Attributes:
        epoch: finished epochs, so also the 0-based number of the next one.
        step: steps already taken of that epoch; above 0 only after an interruption.
        clean: (N,) bool, the clean pool of that epoch once it is split.
        totals: sums of the losses over those steps.
        row: what the log will say of that epoch, as far as it is known.
        rows: the log of all finished epochs.
        seconds: spent on that epoch before an interruption.
        history: what the splits said of each sample.
        best_acc, best_epoch: the best test accuracy so far and its 0-based epoch.
    """

    epoch: int = 0
    step: int = 0
    clean: Tensor | None = None
    totals: Tensor | None = None
    row: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    history: History = field(default_factory=History)
    best_acc: float = 0.0
    best_epoch: int = -1

    def as_state(self) -> dict[str, Any]:
        """Return all of it as tensors and plain values."""
        return {**vars(self), "history": dict(vars(self.history))}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """Return what `as_state` put into a checkpoint; an earlier one holds no history."""
        place = {part.name: state[part.name] for part in fields(cls) if part.name in state}
        return cls(**{**place, "history": History(**state.get("history", {}))})


def save_checkpoint(folder: Path, state: dict[str, Any], best: bool) -> None:
    """Write `state` as the latest checkpoint and keep the one before; perhaps as the best, too.

    Raises:
        TrainingError: disk full, folder not writable, or a weight or loss that is not finite; the
            checkpoints that are there stay.
    """
    for value in (*state[WEIGHTS].values(), state["totals"]):
        if value is not None and not bool(value.isfinite().all()):
            raise TrainingError(f"the weights are no longer finite; {kept(folder)}")
    latest = folder / LATEST
    if latest.exists():
        link(latest, folder / PREVIOUS)
    write_atomically(latest, lambda file: torch.save(state, file))
    if best:
        link(latest, folder / BEST)


def link(source: Path, target: Path) -> None:
    """Make `target` a second name of the file `source`; its old file stays until then."""
    temporary = target.with_name(f".{target.name}.partial")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:  # a file system without hard links
        write_atomically(target, lambda file: file.write(source.read_bytes()))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint: tensors and plain values, nothing that runs code.

    Raises:
        DamagedCheckpoint: cut off, changed, or no checkpoint at all.
        InputError: missing, would run code, or of a later format.
    """
    return check_state(read_tensors(path), path)


def read_latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the latest checkpoint that is whole, and where it is; None when there is none.

    Raises:
        InputError: there are only damaged ones.
    """
    latest, previous = folder / LATEST, folder / PREVIOUS
    if not os.path.lexists(latest) and not os.path.lexists(previous):
        return None
    try:
        if not os.path.lexists(latest):
            raise DamagedCheckpoint(f"{latest} is missing")
        return latest, load_checkpoint(latest)
    except DamagedCheckpoint as damage:
        state = _load_instead(previous, damage)
        say(f"{damage}; using the one before it, {previous.name} (epoch {state['epoch']})")
        return previous, state


def set_damaged_aside(used: Path) -> None:
    """Where the one before the latest is `used`, rename the latest, which is damaged.

    Else the next one to be saved would make it the one before, in place of the good one.
    """
    damaged = used.with_name(LATEST)
    if used.name == PREVIOUS and os.path.lexists(damaged):
        try:
            os.replace(damaged, used.with_name(DAMAGED))
        except OSError as error:  # a folder, and there is one of that name already
            raise InputError(f"{damaged}: damaged, and in the way ({error}); remove it") from error


def _load_instead(previous: Path, damage: DamagedCheckpoint) -> dict[str, Any]:
    """Return the checkpoint before the latest one, which has the `damage`."""
    try:
        if not os.path.lexists(previous):
            raise DamagedCheckpoint("there is none before it")
        return load_checkpoint(previous)
    except DamagedCheckpoint as another:
        raise DamagedCheckpoint(f"{damage}; {another}; --resume False starts anew") from another


def check_finite(totals: Tensor, epoch: int, step: int, folder: Path | None = None) -> None:
    """Raise `TrainingError` when a loss has become NaN or infinite; `folder`: of checkpoints."""
    if not bool(totals.isfinite().all()):
        raise TrainingError(
            f"epoch {epoch}, by step {step}: the loss is not finite; {kept(folder)}"
        )


def kept(folder: Path | None) -> str:
    """Return what is left of a run that diverged, and what to do."""
    remedy = "a lower optimizer learning rate and --resume False start anew"
    if folder is not None and (folder / LATEST).exists():
        return f"the last good checkpoint stays. To go on, take {remedy}"
    return f"no checkpoint was written. Take {remedy}"

"""Checkpoints: whole or not at all, never executed, and honest about what is wrong with them."""

from __future__ import annotations

import os
import pickle
import pickletools
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from defense.history import History
from utils.errors import InputError, TrainingError
from utils.files import write_atomically

FORMAT = 1  # raised whenever older code could misread a checkpoint
LATEST, PREVIOUS, BEST = "latest_model.pt", "latest_model.previous.pt", "best_model.pt"


class DamagedCheckpoint(InputError):
    """The file is cut off or changed; an earlier one may do."""


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
        TrainingError: disk full or folder not writable; the checkpoints that are there stay.
    """
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
    if not path.is_file():
        raise InputError(f"--resume: there is no checkpoint {path}")
    check_bytes(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refusal(path) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise DamagedCheckpoint(f"{path}: no readable checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict) or "model_state_dict" not in state:
        raise InputError(f"{path}: no checkpoint of this project (it has no model_state_dict)")
    if state.get("format", 0) > FORMAT:
        raise InputError(f"{path}: written by a later version (format {state['format']}); update")
    return state


def refusal(path: Path) -> InputError:
    """Return the error for a file whose pickle asks for more than data."""
    return InputError(
        f"{path}: refused, it holds more than tensors and plain values and could run code"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error) or type(error).__name__).splitlines()[0]


def check_bytes(path: Path) -> None:
    """Raise `DamagedCheckpoint` unless the file is whole.

    A current file is a zip with a checksum for each part. An old one is a bare pickle; it is
    walked through without being run.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            try:
                broken = archive.testzip()
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise DamagedCheckpoint(f"{path}: damaged ({first_line(error)})") from error
        if broken:
            raise DamagedCheckpoint(f"{path}: damaged (checksum of {broken})")
        return
    with open(path, "rb") as file:
        try:
            for _ in pickletools.genops(file):
                pass
        except Exception as error:  # whatever a walk through random bytes may meet
            raise DamagedCheckpoint(f"{path}: damaged, or no checkpoint") from error


def restore_network(network: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint, whose names may start with `module.` (from a DDP run).

    Raises:
        InputError: they belong to another network.
    """
    weights = {
        key.removeprefix("module."): value for key, value in state["model_state_dict"].items()
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(
            f"{path}: the weights do not fit the section network ({detail})"
        ) from error


def check_finite(totals: Tensor, epoch: int, step: int) -> None:
    """Raise `TrainingError` when a loss has become NaN or infinite."""
    if not bool(totals.isfinite().all()):
        raise TrainingError(
            f"epoch {epoch}, by step {step}: the loss is not finite; the last good checkpoint "
            f"stays. Try a lower optimizer learning rate"
        )

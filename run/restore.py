"""From a checkpoint back to a running experiment: each part is compared with the run's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from defense import Defense
from run.checkpoint import Progress
from run.state import WEIGHTS
from training.average import Average
from utils.errors import InputError
from utils.same_state import load_optimizer, load_schedule


def restore_network(network: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint, whose names may start with `module.` (from a DDP run).

    Raises:
        InputError: they belong to another network.
    """
    weights = {key.removeprefix("module."): value for key, value in state[WEIGHTS].items()}
    try:
        for name, own in network.state_dict().items():
            if name in weights and weights[name].dtype != own.dtype:
                raise ValueError(f"{name} is {weights[name].dtype}, not {own.dtype}")
        network.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        detail = detail if len(detail) <= 200 else f"{detail[:200]}..."
        raise InputError(
            f"{path}: the weights do not fit the section network ({detail})"
        ) from error


def restore_optimizer(
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    state: Mapping[str, Any],
    path: Path,
    epochs: int,
) -> None:
    """Load the state of an optimiser, and of its schedule if it has one, as they are built.

    Args:
        optimizer: to fill.
        schedule: to fill; None where there is none.
        state: of the checkpoint.
        path: of the checkpoint.
        epochs: that were trained with them.

    Raises:
        InputError: they are of another optimiser, network, schedule or moment.
    """
    saved = state["scheduler_state_dict"]
    with _telling(path, "scheduler_state_dict"):
        if (schedule is None) != (saved is None):
            raise ValueError("a schedule of the learning rate, or none, is expected")
        if schedule is not None:
            load_schedule(schedule, saved, epochs)
    with _telling(path, "optimizer_state_dict"):
        load_optimizer(optimizer, state["optimizer_state_dict"])


def restore_average(average: Average | None, state: Mapping[str, Any], path: Path) -> None:
    """Load the moving average of the weights, where the run keeps one.

    Raises:
        InputError: there is none in the checkpoint, or it is of another network.
    """
    if average is None:
        return
    saved = state.get("average_state_dict")
    with _telling(path, "average_state_dict"):
        if saved is None:
            raise ValueError("there is none")
        restore_network(average.network, {WEIGHTS: saved["network"]}, path)
        average.updates = saved["updates"]


def restore_method(defense: Defense, state: Mapping[str, Any], path: Path) -> None:
    """Load what a defence keeps beside weights and optimiser.

    Raises:
        InputError: it is of another one.
    """
    with _telling(path, "defense_state_dict"):
        defense.load_state_dict(state.get("defense_state_dict", {}))


def restore_progress(
    state: Mapping[str, Any], path: Path, samples: int, losses: int, steps: int
) -> Progress:
    """Return the place in the schedule.

    Args:
        state: of the checkpoint.
        path: of the checkpoint.
        samples: of the training set, N.
        losses: that a step has.
        steps: of an epoch.

    Raises:
        InputError: it is of another number of samples, losses or steps.
    """
    progress = Progress.from_state(dict(state))
    of_samples = {
        "clean": progress.clean,
        "history.polluted": progress.history.polluted,
    }
    with _telling(path, "progress"):
        for name, part in of_samples.items():
            if part is not None and len(part) != samples:
                raise ValueError(f"{name} is of {len(part)} samples, not {samples}")
        if progress.totals is not None and len(progress.totals) != losses:
            raise ValueError(f"totals is of {len(progress.totals)} losses, not {losses}")
        if progress.step > steps:
            raise ValueError(f"step {progress.step} of an epoch of {steps}")
    return progress


def to_device(progress: Progress, device: torch.device) -> None:
    """Move to `device` what training reads there."""
    if progress.clean is not None:
        progress.clean = progress.clean.to(device)
    if progress.totals is not None:
        progress.totals = progress.totals.to(device)


# What PyTorch and the parts make of a state that somebody has changed.
MISFITS = (ValueError, TypeError, LookupError, RuntimeError, AttributeError, OverflowError)


@contextmanager
def _telling(path: Path, key: str) -> Iterator[None]:
    """Turn whatever PyTorch makes of a foreign state into a line."""
    try:
        yield
    except MISFITS as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: {key} is not of this run ({why}); --resume False starts anew"
        ) from error

"""Trainings beside the run's own that may be killed: an attack's networks, a reference model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from utils.console import progress, say
from utils.errors import InputError, TrainingError
from utils.files import locked, signature, write_atomically
from utils.same_state import load_optimizer
from utils.torch_file import read_tensors


class HasState(Protocol):
    """A network or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Go back to a state."""
        ...


def train_resumably(
    path: Path, parts: Mapping[str, HasState], epochs: int, train_epoch: Callable[[int], None]
) -> None:
    """Call `train_epoch` for every epoch; after each, the state of `parts` is kept at `path`.

    What is kept there already is not done again, and of several runs one trains: the others wait
    for it, and read what it has kept. An epoch must depend on its number and on the
    parts alone; then a training that was killed and resumed ends with the same bits.

    Args:
        path: of the file; its folder is made. The caller sees to it that another experiment has
            another path.
        parts: networks and optimisers, changed in place.
        epochs: how many there are.
        train_epoch: gets the epoch, 0-based.

    Raises:
        InputError: what is kept there is of something else.
        TrainingError: a weight is not finite any more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before, first = signature(path), restore(path, parts)
    if first >= epochs:  # without the lock: it may lie where nobody may write
        return
    with locked(path.parent, "storage_dir", path.name):
        if signature(path) != before:  # another run has gone on in the meantime
            first = restore(path, parts)
        train_on(path, parts, range(first, epochs), train_epoch)


def train_on(
    path: Path,
    parts: Mapping[str, HasState],
    epochs: range,
    train_epoch: Callable[[int], None],
) -> None:
    """Train the epochs that are left; see `train_resumably`."""
    for epoch in progress(epochs, path.stem, unit="epoch"):
        train_epoch(epoch)
        refuse_diverged(path, parts, epoch)
        state = {name: part.state_dict() for name, part in parts.items()}
        content = {"epochs": epoch + 1, "parts": state}
        write_atomically(path, lambda file, content=content: torch.save(content, file))  # type: ignore[misc]


def refuse_diverged(path: Path, parts: Mapping[str, HasState], epoch: int) -> None:
    """Keep nothing of a training that went astray: it would be taken for a finished one.

    Raises:
        TrainingError: a weight is not finite.
    """
    for part in parts.values():
        values = part.state_dict().values() if isinstance(part, nn.Module) else ()
        if not all(bool(value.isfinite().all()) for value in values):
            raise TrainingError(
                f"{path.stem}: a weight is not finite after epoch {epoch}; lower the learning rate "
                f"of this training"
            )


def restore(path: Path, parts: Mapping[str, HasState]) -> int:
    """Load the state at `path` into `parts` and return how many epochs it is after; 0 without.

    Raises:
        InputError: the state is whole, but of other networks.
    """
    content = read_kept(path)
    if content is None:
        return 0
    try:
        for name, part in parts.items():
            load_part(part, content["parts"][name])
        return max(int(content["epochs"]), 0)
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: of another version; remove it, and it is learnt anew") from error


def load_part(part: HasState, saved: Any) -> None:
    """Go back to the state `saved`; that of an optimiser must have the shapes of its parameters.

    Its rates are this run's: they are a function of the epoch, and set when one begins.
    """
    if not isinstance(part, Optimizer):
        part.load_state_dict(saved)
        return
    rates = [group["lr"] for group in part.param_groups]
    groups = [
        {**theirs, "lr": rate} for theirs, rate in zip(saved["param_groups"], rates, strict=True)
    ]
    load_optimizer(part, {**saved, "param_groups": groups})


def read_kept(path: Path) -> Any:
    """Return the tensors and plain values at `path`; None if there is no file, or a damaged one."""
    if not path.exists():
        return None
    try:
        return read_tensors(path)
    except InputError:
        say(f"{path} is damaged and made anew")
        return None

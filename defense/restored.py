"""What a checkpoint says of every sample, once it is what its name promises."""

from __future__ import annotations

import torch
from torch import Tensor


def checked_losses(given: object, count: int) -> Tensor:
    """Return losses of `count` samples that a checkpoint holds.

    Raises:
        ValueError: they are none.
    """
    losses = _of_samples(given, count, torch.float32)
    if losses is None or not bool(losses.isfinite().all()):
        raise ValueError(f"told: finite losses of {count} samples are expected")
    return losses


def checked_flags(name: str, given: object, count: int) -> Tensor:
    """Return what a checkpoint holds as `name`, (count,) bool.

    Raises:
        ValueError: it is something else.
    """
    flags = _of_samples(given, count, torch.bool)
    if flags is None:
        raise ValueError(f"{name}: a yes or no for each of {count} samples is expected")
    return flags


def _of_samples(given: object, count: int, dtype: torch.dtype) -> Tensor | None:
    """Return `given` if it is a tensor (count,) of `dtype`."""
    if isinstance(given, Tensor) and given.shape == (count,) and given.dtype == dtype:
        return given
    return None

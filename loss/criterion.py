"""What every loss has in common: a value for each sample, reduced only where the caller asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

from utils.section import Section


class Criterion(ABC):
    """A loss of logits against given labels, without state."""

    class Settings(Section):
        """What the YAML may set below the loss's name."""

        num_classes: int | None = None
        reduction: Literal["mean"] = "mean"

    def __init__(self, settings: Section) -> None:
        self.settings = settings

    @abstractmethod
    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss (N,) of `logits` (N, C) for `labels` (N,) int64."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of the batch, a scalar."""
        return self.per_sample(logits, labels).mean()

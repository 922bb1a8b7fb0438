"""The MixMatch loss (Berthelot et al. 2019) as ASD uses it: L_x + lambda_u * L_u."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from utils.section import Section


@dataclass(frozen=True)
class Ramp:
    """lambda_u in the course of a run.

    Attributes:
        lambda_u: at the end of the ramp, and after it.
        length: epochs until then.
        first: the 0-based epoch from which they count.
    """

    lambda_u: float
    length: int
    first: int = 0

    def at(self, epoch: float) -> float:
        """Return lambda_u at the fractional 0-based `epoch`."""
        return unlabelled_weight(self.lambda_u, self.length, epoch - self.first)

    def over(self, epoch: int, steps: int, first_step: int = 0) -> Iterator[float]:
        """Yield lambda_u of each step of `epoch`, which has so many, from `first_step` on."""
        for step in range(first_step, steps):
            yield self.at(epoch + step / steps)

    def at_end(self, epoch: int, steps: int) -> float:
        """Return lambda_u of the last step of `epoch`, which has so many."""
        return self.at(epoch + 1 - 1 / steps)


class MixMatchLossSettings(Section):
    """`semi.criterion.mixmatch` of the YAML.

    `rampup_length` (epochs) is the run's `num_epochs` when left out.
    """

    lambda_u: float = Field(default=15.0, ge=0)
    rampup_length: int | None = Field(default=None, ge=1)

    def ramp(self, length: int, first: int = 0) -> Ramp:
        """Return the ramp, of `length` epochs where none is given, from epoch `first` on."""
        return Ramp(self.lambda_u, self.rampup_length or length, first)


def unlabelled_weight(lambda_u: float, rampup_length: int, epoch: float) -> float:
    """Return lambda_u at the fractional 0-based `epoch`: a linear ramp over `rampup_length`."""
    return lambda_u * min(max(epoch / rampup_length, 0.0), 1.0)


def labelled_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of `logits` (B, C) against soft `targets` (B, C), a scalar."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()


def unlabelled_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error over all B * C entries of softmax(`logits`), a scalar."""
    return torch.mean((functional.softmax(logits, dim=1) - targets) ** 2)

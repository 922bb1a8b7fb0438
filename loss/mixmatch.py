"""The MixMatch loss (Berthelot et al. 2019) as ASD uses it: L_x + lambda_u * L_u."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from utils.section import Section


class MixMatchLossSettings(Section):
    """`semi.criterion.mixmatch` of the YAML.

    `rampup_length` (epochs) is the run's `num_epochs` when left out.
    """

    lambda_u: float = Field(default=15.0, ge=0)
    rampup_length: int | None = Field(default=None, ge=1)


def unlabelled_weight(lambda_u: float, rampup_length: int, epoch: float) -> float:
    """Return lambda_u at the fractional 0-based `epoch`: a linear ramp over `rampup_length`."""
    return lambda_u * min(max(epoch / rampup_length, 0.0), 1.0)


def labelled_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of `logits` (B, C) against soft `targets` (B, C), a scalar."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()


def unlabelled_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error over all B * C entries of softmax(`logits`), a scalar."""
    return torch.mean((functional.softmax(logits, dim=1) - targets) ** 2)

"""The losses of ABL (Li et al., NeurIPS 2021): one that isolates easy samples, one that unlearns.

Poison is learnt first, and its loss falls lowest. ABL holds the mean loss of a batch near a level,
so that what still falls is what is learnt by a shortcut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Isolation = Literal["flooding", "lga"]


def local_gradient_ascent(loss: Tensor, level: float) -> Tensor:
    """Return `sign(loss - level) * loss`: below the level the step climbs.

    Args:
        loss: the mean of a batch, a scalar.
        level: gamma of the paper.
    """
    return torch.sign(loss.detach() - level) * loss


def flooding(loss: Tensor, level: float) -> Tensor:
    """Return `|loss - level| + level`: the same gradient, and a value that is never below it."""
    return (loss - level).abs() + level


ISOLATION: dict[Isolation, Callable[[Tensor, float], Tensor]] = {
    "flooding": flooding,
    "lga": local_gradient_ascent,
}


def bounded_ascent(losses: Tensor, bound: float | None) -> Tensor:
    """Return `-mean(min(loss, bound))`, to be minimised: unlearn, but not without end.

    The published objective has no minimum: a few hundred samples can be driven to any loss, and
    take the rest of the network with them. Above the bound a sample has no gradient.

    Args:
        losses: (B,) cross entropies.
        bound: of a single sample's; None: the published objective.
    """
    return -(losses if bound is None else losses.clamp_max(bound)).mean()

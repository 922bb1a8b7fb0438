"""Numbers that fall into two groups: a low one, and a high one that is suspected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from witness.unverified_group import ROUNDS, belonging, separation
from witness.witness import FEWEST_VERIFIED, USUAL, Case, Statement

FIRST_SHARES = (0.05, 0.2, 0.5)  # first guesses of how large the high group is


@dataclass(frozen=True)
class Line:
    """Numbers divided in two.

    Attributes:
        high: (n,) float64, 0..1, how much each belongs to the high group.
        separation: between the groups' means, in standard deviations within them.
        distance: (n,) float64, of each from the low group's mean, in the same unit.
    """

    high: Tensor
    separation: float
    distance: Tensor

    @property
    def share(self) -> float:
        """Share of all that the high group takes."""
        return float((self.high > 0.5).double().mean())

    def share_of_verified(self, verified: Tensor) -> float | None:
        """Return the share of the verified that is high; None: too few to tell; (n,) bool."""
        if int(verified.sum()) < FEWEST_VERIFIED:
            return None
        return float(self.high[verified].mean())


class Charges:
    """What is said of the labels that a line divides, until all have been looked at.

    Args:
        case: whose samples they are.
        near: deviations, within which a sample of an accused label counts as of the low group.
    """

    def __init__(self, case: Case, near: float) -> None:
        self.verified, self.near = case.verified, near
        self._suspicion = torch.zeros(len(case.labels))
        self._vetoed = torch.zeros(len(case.labels), dtype=torch.bool)
        self._accused: dict[int, float] = {}

    def accuse(self, label: int, members: Tensor, line: Line, needed: float) -> None:
        """Accuse a label; veto those of its `members` (n,) that lie far along the line.

        Half of what makes it certain is the separation `needed`.
        """
        self._accused[label] = min(1.0, line.separation / (2 * needed))
        self._suspicion[members] = line.distance.clamp(-USUAL, USUAL).float()
        self._vetoed[members] = (line.distance > self.near) & ~self.verified[members]

    def statement(self, cost: float, looked_at: set[int]) -> Statement:
        """Return all of it."""
        suspicion = torch.where(self._vetoed, self._suspicion + USUAL, self._suspicion)
        return Statement(suspicion, self._vetoed, self._accused, cost, frozenset(looked_at))


def divide_line(values: Tensor) -> Line:
    """Return the division of `values` (n,) float64 that holds the groups farthest apart."""
    found = [_refine(values, share) for share in FIRST_SHARES]
    return max(found, key=lambda line: line.separation)


def _refine(values: Tensor, share: float) -> Line:
    """Refine a first guess: the highest `share` are the high group."""
    high = (values > values.quantile(1 - share)).double()
    for _ in range(ROUNDS):
        before, high = high, belonging(values, high)
        if float((high - before).abs().max()) < 1e-3:
            break
    apart = separation(values, high)
    mean_high = (high * values).sum() / high.sum().clamp_min(1e-9)
    mean_low = ((1 - high) * values).sum() / (1 - high).sum().clamp_min(1e-9)
    unit = ((mean_high - mean_low) / max(apart, 1e-9)).clamp_min(1e-12)
    return Line(high, apart, (values - mean_low) / unit)

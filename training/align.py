"""Classes that are guessed, or kept, too seldom.

Alignment of guessed labels is after ReMixMatch (Berthelot et al. 2020), adjustment of logits for
given ones after Menon et al. (2021).

A model that has lost a class never guesses it, so the class is never learnt again. Alignment asks
the guesses of many batches together to have the classes' true shares. These are never those of the
given labels: at 5 % poison the target holds 14.5 % of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MEMORY = 128  # batches over which the guesses are averaged
RAREST = 1e-3  # share of a class; below, an adjustment is as for this
MOST = 3.0  # a class is raised, or lowered, by this factor at most: the average is a rough one


class Alignment:
    """Keeps the mean of the guesses and says by how much each class is to be raised.

    Args:
        prior: (C,) the share of each class among the true labels, above 0.
    """

    def __init__(self, prior: Tensor) -> None:
        self.prior = prior / prior.sum()
        self.mean = self.prior.clone()  # so that the first guesses stay as they are

    @property
    def factors(self) -> Tensor:
        """(C,) by which the probabilities of a guess are multiplied before sharpening."""
        return (self.prior / self.mean.clamp_min(1e-6)).clamp(1 / MOST, MOST)

    @torch.no_grad()
    def note(self, guesses: Tensor) -> None:
        """Add a batch of guesses (B, C), as they were before alignment."""
        self.mean.lerp_(guesses.float().mean(dim=0), 1 / MEMORY)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        mean = state["mean"]
        if mean.shape != self.mean.shape or not bool((mean >= 0).all()):
            raise ValueError("mean: one share for each class is expected")
        self.mean.copy_(mean)


def align(probabilities: Tensor, factors: Tensor) -> Tensor:
    """Return guesses (B, C) whose classes are raised by `factors` (C,), each with sum 1."""
    raised = probabilities * factors
    return raised / raised.sum(dim=1, keepdim=True)


def adjustment(labels: Tensor, prior: Tensor) -> Tensor:
    """Return what is added to the logits (C,) while training on `labels` (n,), in nats.

    A class with fewer of them than its share must do with less, so the network gives it more.

    Args:
        labels: int64, of the clean pool.
        prior: (C,) the share of each class among the true labels.
    """
    counts = torch.bincount(labels, minlength=len(prior)).to(prior)
    shares = counts / counts.sum().clamp_min(1)
    return (shares.clamp_min(RAREST) / (prior / prior.sum()).clamp_min(RAREST)).log()


def shares_of(labels: Tensor, num_classes: int) -> Tensor:
    """Return the share (C,) of each class among verified `labels` (n,), smoothed by one each."""
    counts = torch.bincount(labels, minlength=num_classes).float() + 1
    return counts / counts.sum()

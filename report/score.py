"""How suspicious each training sample is: from what the run has seen of it, without the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from data.review import Review
from defense.history import History
from report.findings import Opinion


def ranks(values: Tensor) -> Tensor:
    """Return (N,) float32 in 0..1: the share of the samples that are lower, equals counted half."""
    order = values.double()
    _, inverse, counts = order.unique(return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    middle = below + counts.double() / 2
    return (middle / len(values)).float()[inverse]


def suspicion(opinion: Opinion, history: History, review: Review) -> Tensor:
    """Return the score of each sample, (N,) float32 in 0..1, high is suspicious.

    The mean of the samples' ranks by each signal. What a person has said outweighs all signals.
    """
    signals = [1 - opinion.given, *history.losses.values()]
    if history.polluted is not None:
        signals.append(history.polluted)
    signals += history.reductions
    score = torch.stack([ranks(signal) for signal in signals]).mean(dim=0)
    score[review.clean] = 0
    score[review.poisoned] = 1
    return score

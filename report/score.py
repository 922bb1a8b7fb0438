"""How suspicious each training sample is: from what the run has seen of it, without the truth.

Three things speak against a sample. *Contradiction*: the model finds its given label unlikely, at
the end and at the end of each stage. *Being learnt at once*: a virtual model that is trained on all
given labels takes this one in far faster than others (the meta-split's signal). *Rarity* of the
model's own label among the samples of one given label: hard cats look like dogs, poison labelled
cat looks like anything. Each is measured in robust standard deviations of all samples, so that it
counts for as much as it sets some samples apart: the loss of a good model does, that of a weak one
hardly. The verdict on the whole set rests on contradiction alone (see `report/verdict.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from data.review import Review
from defense.history import History
from report.findings import Opinion

OUTLIER = 20.0  # robust standard deviations beyond which a sample is no more suspicious
USUAL = 3.0  # the same on the harmless side
NORMAL_DEVIATION = 1.4826  # of a normal distribution, in median absolute deviations


def robust_deviations(values: Tensor) -> Tensor:
    """Return (N,) float64: how many robust standard deviations above the median."""
    values = values.double()
    median = values.median()
    spread = NORMAL_DEVIATION * (values - median).abs().median()
    return ((values - median) / spread.clamp_min(1e-6)).clamp(-USUAL, OUTLIER)


def ranks(values: Tensor) -> Tensor:
    """Return (N,) float32 in 0..1: the share of the samples that are lower, equals counted half."""
    _, inverse, counts = values.double().unique(return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    middle = below + counts.double() / 2
    return (middle / len(values)).float()[inverse]


def contradiction(opinion: Opinion, history: History) -> Tensor:
    """Return how unlikely the model finds each given label, (N,) float64 in deviations."""
    signals = [1 - opinion.given, *history.losses.values()]
    return torch.stack([robust_deviations(signal) for signal in signals]).mean(dim=0)


def rarity(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return (N,) float64: minus the logarithm of the share of the sample's own label.

    The share among all samples of the same given label.
    """
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    pairs = pairs.reshape(num_classes, num_classes).double()
    return -(pairs / pairs.sum(dim=1, keepdim=True))[labels, predicted].log()


def evidence(opinion: Opinion, history: History, labels: Tensor, num_classes: int) -> Tensor:
    """Return all that speaks against each sample for itself, (N,) float32 in 0..1, as ranks.

    Args:
        opinion: of the model.
        history: what the splits said.
        labels: (N,) int64, given labels.
        num_classes: number of classes.
    """
    total = contradiction(opinion, history)
    total = total + robust_deviations(rarity(labels, opinion.predicted, num_classes))
    if history.reductions:
        total = total + robust_deviations(torch.stack(history.reductions).mean(dim=0))
    return ranks(total)


def suspicion(
    against: Tensor, labels: Tensor, target: int, concentration: float, review: Review
) -> Tensor:
    """Return the score of each sample, (N,) float32 in 0..1, high is suspicious.

    The evidence, of which a sample that does not have the suspected target's label keeps the less,
    the more densely that label stands among the suspects: where there is poison, a hard sample of
    another class is only hard. What a person has said outweighs all evidence.

    Args:
        against: (N,) float32, the evidence.
        labels: (N,) int64, given labels.
        target: the class that stands most densely among the suspects.
        concentration: how densely, 0..1.
        review: what a person has said.
    """
    score = torch.where(labels == target, against, against * (1 - concentration))
    score[review.clean] = 0
    score[review.poisoned] = 1
    return score

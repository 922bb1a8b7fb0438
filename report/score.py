"""How suspicious each training sample is: from what the run has seen of it, without the truth.

Two kinds of evidence speak against a sample. *Contradiction*: the model finds its given label
unlikely, at the end and at the end of each stage. *Being learnt at once*: a virtual model that is
trained on all given labels takes this one in far faster than others (the meta-split's signal). Each
signal is measured in robust standard deviations of all samples, so that it counts for as much as it
sets some samples apart: the loss of a good model does, that of a weak one hardly.

A third fact tells poison from hard samples of the target class itself: *rarity* of the model's own
label among the samples of one given label. Hard cats look like dogs; poison labelled cat looks like
anything. The verdict rests on the first two (it looks at own labels in its own way), the score on
all three.
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


def deviations(opinion: Opinion, history: History) -> Tensor:
    """Return contradiction and being learnt at once, summed, (N,) float64 in deviations."""
    contradiction = [1 - opinion.given, *history.losses.values()]
    total = torch.stack([robust_deviations(signal) for signal in contradiction]).mean(dim=0)
    if history.reductions:
        total = total + robust_deviations(torch.stack(history.reductions).mean(dim=0))
    return total


def rarity(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return (N,) float64: minus the logarithm of the share of the sample's own label.

    The share among all samples of the same given label.
    """
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    pairs = pairs.reshape(num_classes, num_classes).double()
    return -(pairs / pairs.sum(dim=1, keepdim=True))[labels, predicted].log()


def evidence(opinion: Opinion, history: History) -> Tensor:
    """Return what speaks against each sample for itself, (N,) float32 in 0..1, as ranks."""
    return ranks(deviations(opinion, history))


def evidence_with_rarity(
    opinion: Opinion, history: History, labels: Tensor, num_classes: int
) -> Tensor:
    """Return the evidence with the rarity of the own label, (N,) float32 in 0..1, as ranks."""
    rare = robust_deviations(rarity(labels, opinion.predicted, num_classes))
    return ranks(deviations(opinion, history) + rare)


def suspicion(
    against: Tensor, labels: Tensor, target: int, concentration: float, review: Review
) -> Tensor:
    """Return the score of each sample, (N,) float32 in 0..1, high is suspicious.

    The evidence, of which a sample that does not have the suspected target's label keeps the less,
    the more densely that label stands among the suspects: where there is poison, a hard sample of
    another class is only hard. What a person has said outweighs all evidence.

    Args:
        against: (N,) float32, the evidence with rarity.
        labels: (N,) int64, given labels.
        target: the class that stands most densely among the suspects.
        concentration: how densely, 0..1.
        review: what a person has said.
    """
    score = torch.where(labels == target, against, against * (1 - concentration))
    score[review.clean] = 0
    score[review.poisoned] = 1
    return score

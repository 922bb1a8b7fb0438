"""How suspicious each training sample is: from what the run has seen of it, without the truth.

Three things speak against a sample. *Contradiction*: the model finds its given label unlikely, at
the end and at the end of each stage. *Being learnt at once*: a virtual model that is trained on all
given labels takes this one in far faster than others (the meta-split's signal). *Rarity* of the
model's own label among the samples of one given label: hard cats look like dogs, poison labelled
cat looks like anything. Each is measured in robust standard deviations of all samples, so that it
counts for as much as it sets some samples apart: the loss of a good model does, that of a weak one
hardly. Far out the deviations count by their logarithm, without an end: one signal cannot drown the
others, and samples that differ stay different, however confident the model is. The verdict on the
whole set rests on contradiction alone (see `report/judge.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from data.review import Review
from defense.history import History
from report.findings import Opinion
from utils.robust import robust_deviation
from witness.hearing import NOBODY, Testimony

LEAST_PROBABILITY = torch.finfo(torch.float32).tiny  # of a given label; its loss is 87
VETO = 100.0  # deviations, more than all other evidence together


def robust_deviations(values: Tensor) -> Tensor:
    """Return (N,) float64: robust standard deviations above the median, compressed.

    It is the inverse hyperbolic sine of the deviations: they themselves near the median, and their
    logarithm far away. It rises with the value throughout, so equal only are equal values.
    """
    distance = values.double() - values.double().median()
    deviation = robust_deviation(distance)
    if deviation == 0:  # more than half are equal, as are the losses of a very confident model
        apart = distance[distance != 0]
        deviation = robust_deviation(apart) if len(apart) else torch.ones_like(deviation)
    return torch.asinh(distance / deviation)


def ranks(values: Tensor) -> Tensor:
    """Return (N,) float64 in 0..1: the share of the samples that are lower, equals counted half."""
    _, inverse, counts = values.double().unique(return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    middle = below + counts.double() / 2
    return (middle / len(values))[inverse]


def contradiction(opinion: Opinion, history: History) -> Tensor:
    """Return how unlikely the model finds each given label, (N,) float64 in deviations.

    By the loss, not the probability: of a label that a confident model contradicts, the probability
    is 0 within the precision of the numbers.
    """
    loss = -opinion.given.double().clamp_min(LEAST_PROBABILITY).log()
    signals = [loss, *history.losses.values()]
    return torch.stack([robust_deviations(signal) for signal in signals]).mean(dim=0)


def rarity(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return (N,) float64: minus the logarithm of the share of the sample's own label.

    The share among all samples of the same given label.
    """
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    pairs = pairs.reshape(num_classes, num_classes).double()
    return -(pairs / pairs.sum(dim=1, keepdim=True))[labels, predicted].log()


def evidence(
    opinion: Opinion,
    history: History,
    labels: Tensor,
    num_classes: int,
    testimony: Testimony = NOBODY,
) -> Tensor:
    """Return all that speaks against each sample for itself, (N,) float64 in 0..1, as ranks.

    Args:
        opinion: of the model.
        history: what the splits said.
        labels: (N,) int64, given labels.
        num_classes: number of classes.
        testimony: of witnesses beside the model; what one vetoes comes before all others, and what
            they but suspect counts as much as what the model says.
    """
    total = contradiction(opinion, history)
    total = total + robust_deviations(rarity(labels, opinion.predicted, num_classes))
    if history.reductions:
        total = total + robust_deviations(torch.stack(history.reductions).mean(dim=0))
    for said in testimony.statements.values():
        total = total + torch.asinh(said.suspicion.double()) + said.vetoed * VETO
    return ranks(total)


def suspicion(
    against: Tensor, labels: Tensor, standing_out: Mapping[int, float], review: Review
) -> Tensor:
    """Return the score of each sample, (N,) float32 in 0..1, high is suspicious.

    The evidence, of which a sample that does not have a suspected target's label keeps the less,
    the more densely these labels stand among the suspects: where there is poison, a hard sample of
    another class is only hard. What a person has said outweighs all evidence.

    Args:
        against: (N,) float, the evidence.
        labels: (N,) int64, given labels.
        standing_out: how densely, 0..1, each of the classes stands among the suspects that are
            most likely targets.
        review: what a person has said.
    """
    kept = 1 - max(standing_out.values(), default=0.0)
    targets = torch.tensor(sorted(standing_out), dtype=torch.int64)
    score = torch.where(torch.isin(labels, targets), against, against * kept).float()
    return review.applied_to(score, 0, 1)

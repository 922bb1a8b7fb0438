"""Verified samples that the model does not believe: poisoned or mislabelled ones among them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from utils.robust import robust_deviation

DEVIATIONS = 6  # from the median, far outside of what chance does to a few dozen losses
# Losses of seeds lie close together, all near 0, so that their spread alone would call a mere
# doubt of the model far. So far above the median, a label has a quarter of the usual probability.
LEAST_DISTANCE = math.log(4)
FEWEST = 4  # seeds of a class that have a median of their own; others are held against all seeds


def doubtful(loss: Tensor, labels: Tensor, seeds: Tensor, num_classes: int) -> Tensor:
    """Return the seeds whose loss is far above that of their class's other seeds.

    Far is more than six robust standard deviations and more than ln 4 above the median. Median and
    deviation do not move as long as less than half of a class's seeds are wrong.

    Args:
        loss: (N,) cross entropy of every sample for its given label, at the end of a run.
        labels: (N,) int64, given labels.
        seeds: (n,) int64, indices of the verified samples.
        num_classes: number of classes.

    Returns:
        (m,) int64, indices of samples, those of the highest losses first.
    """
    values, classes = loss[seeds].float(), labels[seeds]
    far = torch.zeros_like(seeds, dtype=torch.bool)
    for label in range(num_classes):
        members = classes == label
        peers = values[members] if int(members.sum()) >= FEWEST else values
        if len(peers):
            far |= members & (values > limit(peers))
    found = torch.nonzero(far).flatten()
    return seeds[found[values[found].argsort(descending=True, stable=True)]]


def limit(values: Tensor) -> Tensor:
    """Return the loss above which one of `values` (n,) is far from the others, a scalar."""
    middle = values.median()
    far = DEVIATIONS * robust_deviation(values - middle)
    return middle + torch.clamp(far, min=LEAST_DISTANCE)

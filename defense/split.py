"""The three ways in which ASD divides all samples into two pools (paper, section 3).

Each returns the clean pool as (N,) bool; its complement is the polluted pool. The splits take O(N)
time; ties are broken by index, so a split is a function of its input.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**22  # samples that stage 1 looks at in one go; bounds its memory, not its result


def lowest(values: Tensor, count: int) -> Tensor:
    """Return which `count` of `values` (n,) are the lowest, (n,) bool; of equals, the first.

    A selection, not a sort: O(n) time, and one copy of the values.
    """
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if count >= len(values):
        return torch.ones_like(values, dtype=torch.bool)
    threshold = kth_smallest(values, count)
    chosen = values < threshold
    equal = torch.nonzero(values == threshold).flatten()
    # `count_nonzero`, since a sum would first make eight bytes of each.
    chosen[equal[: count - int(torch.count_nonzero(chosen))]] = True
    return chosen


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """Return the `k`th smallest, from 1, of `values` (n,) as a scalar.

    On the CPU by NumPy: PyTorch's selection also keeps an index of 8 bytes for each value. On a GPU
    by sorting: its selection is one of the functions that `seed.deterministic` forbids, since of
    equal values it may find either.
    """
    if values.device.type == "cpu":
        return values.new_tensor(np.partition(values.numpy(), k - 1)[k - 1])
    return values.sort().values[k - 1]


def class_aware(loss: Tensor, labels: Tensor, seeds: Tensor, per_class: int | Tensor) -> Tensor:
    """Stage 1: the verified seeds, and for each class its `per_class` lowest losses beside them.

    Args:
        loss: (N,) split loss under the current model.
        labels: (N,) int64, given labels.
        seeds: (n,) int64, indices of the verified clean samples.
        per_class: how many of each class join the seeds, one number or (C,) int64; a smaller class
            joins whole.

    Returns:
        (N,) bool, the clean pool.
    """
    pool = torch.zeros_like(labels, dtype=torch.bool)
    pool[seeds] = True
    num_classes = int(labels.max()) + 1
    wanted_of = labels.new_zeros(num_classes) + per_class  # (C,)
    if not int(wanted_of.max()):
        return pool
    best = labels.new_empty(0)
    limits = loss.new_full((num_classes,), math.inf)
    for start in range(0, len(loss), CHUNK):
        part = slice(start, start + CHUNK)
        wanted = (loss[part] < limits[labels[part]]) & ~pool[part]
        candidates = torch.cat([best, torch.nonzero(wanted).flatten() + start])
        best, limits = best_of_each_class(candidates, loss, labels, wanted_of)
    pool[best] = True
    return pool


def best_of_each_class(
    candidates: Tensor, loss: Tensor, labels: Tensor, per_class: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the `per_class` lowest losses of each class, and what a later sample must beat.

    Args:
        candidates: (n,) int64 indices; of equal losses, those before come first.
        loss: (N,) of all samples.
        labels: (N,) int64, their given labels.
        per_class: (C,) int64, how many of each class.

    Returns:
        (m,) int64, the best of `candidates`; (C,) the last loss that is in, or infinity
        for a class that has room.
    """
    candidates = candidates[loss[candidates].argsort(stable=True)]
    candidates = candidates[labels[candidates].argsort(stable=True)]
    classes = labels[candidates]
    sizes = torch.bincount(classes, minlength=len(per_class))
    first = sizes.cumsum(0) - sizes  # where each class begins
    rank = torch.arange(len(candidates), device=loss.device) - first[classes]
    limits = loss.new_full((len(per_class),), math.inf)
    limits[per_class == 0] = -math.inf
    last = candidates[rank == per_class[classes] - 1]
    limits[labels[last]] = loss[last]
    return candidates[rank < per_class[classes]], limits


def class_agnostic(
    loss: Tensor, fraction: float, labels: Tensor | None = None, class_floor: float = 0.0
) -> Tensor:
    """Stage 2: the `floor(fraction * N)` lowest losses of all samples, as (N,) bool.

    The paper's split can lose a hard class: a weak model's losses for it are all high, so its
    labels are dropped, and it is never learnt. `class_floor` (not the paper's) keeps a place for
    each class: its lowest losses, as many as that share of an even part of the pool, and of its
    own part.

    Args:
        loss: (N,) split loss under the current model.
        fraction: of the samples, that make the clean pool.
        labels: (N,) int64, given labels; wanted where there is a `class_floor`.
        class_floor: 0 to 1; with 0 labels do not count, with 1 classes of one size are
            kept alike.
    """
    count = math.floor(fraction * len(loss))
    if labels is None or class_floor == 0:
        return lowest(loss, count)
    sizes = torch.bincount(labels)
    num_classes = len(sizes)
    everything = torch.arange(len(labels), device=labels.device)
    kept = torch.zeros_like(labels, dtype=torch.bool)
    if share := math.floor(class_floor * count / num_classes):
        # Of a small class no more than that share of its own part: none is kept whole.
        floors = (class_floor * fraction * sizes.double()).ceil().long().clamp_max(share)
        kept[best_of_each_class(everything, loss, labels, floors)[0]] = True
    rest = loss.masked_fill(kept, math.inf)
    return kept | lowest(rest, count - int(torch.count_nonzero(kept)))


def meta_split(
    loss: Tensor,
    virtual_loss: Tensor,
    fraction: float,
    labels: Tensor | None = None,
    class_floor: float = 0.0,
) -> Tensor:
    """Stage 3: the `floor(fraction * N)` smallest loss reductions, as (N,) bool.

    Args:
        loss: (N,) under the model.
        virtual_loss: (N,) under the virtual model, a copy that was trained on all samples with
            their given labels. Poisoned samples are learnt fast, so their loss falls most.
        fraction: of the samples, that make the clean pool.
        labels: as in stage 2.
        class_floor: as in stage 2, of the smallest reductions.
    """
    return class_agnostic(loss - virtual_loss, fraction, labels, class_floor)

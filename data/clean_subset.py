"""The clean samples that a repair may use: what somebody has verified, or stands for that."""

from __future__ import annotations

import torch
from torch import Tensor

from data.poison import TrainingSet, Truth
from data.review import Review
from utils.errors import InputError
from utils.streams import Streams


def draw_clean(truth: Truth, fraction: float, streams: Streams) -> Tensor:
    """Return `round(fraction * N)` untouched training samples, as sorted indices (n,).

    As with the seeds, the truth stands here for a person who has looked at the samples.

    Raises:
        InputError: there are not so many, or it is none.
    """
    candidates = torch.nonzero(truth.untouched).flatten()
    count = round(fraction * len(truth.roles))
    if not 0 < count <= len(candidates):
        raise InputError(
            f"repair.clean_fraction: {fraction} asks for {count} clean samples of "
            f"{len(candidates)}; give another share"
        )
    order = torch.randperm(len(candidates), generator=streams.torch("repair-subset"))
    return candidates[order[:count]].sort().values


def verified_samples(training: TrainingSet, seeds: Tensor, checked: bool, review: Review) -> Tensor:
    """Return the samples of own data that a person has verified, as sorted indices (n,).

    Args:
        training: the set that they belong to.
        seeds: (n,) int64, sorted, those from which a run starts, what the review adds included.
        checked: whether a person has verified the others of them.
        review: what a person has said since.

    Raises:
        InputError: nobody has verified any, or none of some class: a model that is repaired
            without a class would forget it.
    """
    known = seeds if checked else review.accepted
    found = torch.bincount(training.labels[known].cpu(), minlength=training.num_classes)
    if not int(found.min()):
        of = f" of class {training.classes[int(found.argmin())]!r}" if len(known) else ""
        raise InputError(
            f"repair: it needs samples{of or ' of each class'} that are known to be clean, and "
            f"nobody has checked any; put some into seeds/<class>/ beside train/, list them in "
            f"global.seed_indices, or call them clean in a review"
        )
    return known

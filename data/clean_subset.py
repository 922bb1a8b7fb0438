"""The clean samples that a repair may use: what somebody has verified, or stands for that."""

from __future__ import annotations

import torch
from torch import Tensor

from data.poison import Truth
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


def verified_or_none(seeds: Tensor, checked: bool) -> Tensor:
    """Return the verified samples of own data.

    Raises:
        InputError: nobody has verified any.
    """
    if not checked:
        raise InputError(
            "repair: it needs samples that are known to be clean, and nobody has checked any; put "
            "some into seeds/<class>/ beside train/, or list them in global.seed_indices"
        )
    return seeds

"""When ASD divides the samples, in which way, and how many join the verified ones in stage 1."""

from __future__ import annotations

import torch
from torch import Tensor

from defense.settings import GlobalSection

CLASS_AWARE, CLASS_AGNOSTIC, META_SPLIT = "class-aware", "class-agnostic", "meta-split"


def stage_of(epoch: int, schedule: GlobalSection) -> str:
    """Return the stage of the 0-based `epoch` (paper, section 3.3)."""
    if epoch < schedule.epoch_first:
        return CLASS_AWARE
    return CLASS_AGNOSTIC if epoch < schedule.epoch_second else META_SPLIT


def is_split(epoch: int, schedule: GlobalSection) -> bool:
    """Return whether the pools are divided anew at the 0-based `epoch`, or kept.

    Each stage begins with a split, so that its own way holds from its first epoch on, and who waits
    for the end of stage 1 is told. In stage 3 each epoch has one: its virtual model shows what the
    next steps would learn, and nothing else.
    """
    if stage_of(epoch, schedule) == META_SPLIT:
        return True
    first = 0 if epoch < schedule.epoch_first else schedule.epoch_first
    return (epoch - first) % schedule.split_every == 0


def last_split_of_stage_1(num_epochs: int, schedule: GlobalSection) -> int:
    """Return the 0-based epoch whose split makes the largest pool of stage 1; 0 without one.

    Args:
        num_epochs: of the run, which may end before the stage does.
        schedule: `global` of the YAML.
    """
    last = max(min(schedule.epoch_first, num_epochs) - 1, 0)
    return last - last % schedule.split_every


def joined_per_class(epoch: int, schedule: GlobalSection, sizes: Tensor) -> Tensor:
    """Return how many of each class join the seeds at a split in stage 1, (C,) int64.

    As published `n` more every `t` epochs; with `growth` a share more of each class every epoch.

    Args:
        epoch: 0-based, of the split: pools that are kept do not grow.
        schedule: `global` of the YAML.
        sizes: (C,) int64, samples of each given label.
    """
    if schedule.growth is None:
        return torch.full_like(sizes, schedule.n * (epoch // schedule.t))
    return (schedule.growth * epoch * sizes).long()

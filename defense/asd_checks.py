"""What ASD refuses: keys that contradict each other, and data that leave no polluted pool."""

from __future__ import annotations

import torch
from torch import Tensor

from defense.schedule import joined_per_class, last_split_of_stage_1
from defense.settings import DefenseSettings
from utils.errors import InputError
from utils.section import contradiction
from witness import WITNESSES


def refuse_two_losses(config: DefenseSettings) -> None:
    """Raise `contradiction` where losses are compared that are not of one kind."""
    if config.split.criterion.name == "cross_entropy":
        return
    if config.global_.epsilon == "auto":
        why = "the plain model's losses are cross entropies; set split.criterion.cross_entropy"
        raise contradiction("global.epsilon: auto", "split.criterion", why)
    for choice in config.witness.heard:
        if WITNESSES.get(choice.name).waits:
            why = "it compares cross entropies; set split.criterion.cross_entropy"
            raise contradiction(f"witness.heard.{choice.name}", "split.criterion", why)


def refuse_another_end(config: DefenseSettings) -> None:
    """Raise `contradiction` where the stages, or the ramp of lambda_u, end elsewhere than the run.

    The last stage may end after it.
    """
    if config.num_epochs > config.global_.epoch_third:
        why = f"the last of the stages ends at {config.global_.epoch_third}"
        raise contradiction("num_epochs", "global.epoch_third", why)
    ramp = config.semi.criterion.mixmatch.rampup_length
    if ramp is not None and ramp != config.num_epochs:
        why = f"{ramp} is not {config.num_epochs}; leave it out"
        raise contradiction("semi.criterion.mixmatch.rampup_length", "num_epochs", why)


def refuse_empty_polluted_pool(config: DefenseSettings, sizes: Tensor, verified: Tensor) -> None:
    """Raise `InputError` where stage 1 would take all samples.

    Args:
        config: whose schedule it is.
        sizes: (C,) int64, samples of each given label.
        verified: (C,) int64, how many of them are verified.
    """
    if torch.equal(sizes, verified):
        raise InputError(
            f"all {int(sizes.sum())} training samples are verified, so there is nothing to defend "
            f"against; add unverified ones, or train plainly with defense=none"
        )
    schedule = config.global_
    last = last_split_of_stage_1(config.num_epochs, schedule)
    largest = joined_per_class(last, schedule, sizes)
    if bool((sizes - verified <= largest).all()):
        keys, remedy = "global.n, global.t", "lower n or raise t"
        if schedule.growth is not None:
            keys, remedy = "global.growth", "lower it or let stage 1 end earlier"
        raise InputError(
            f"{keys}: stage 1 would take {int(largest.max())} samples a class, which is all "
            f"there are, and leave no polluted pool; {remedy}"
        )

"""Pools that a setting makes too small to train on: refused at the start, not after stage 1."""

from __future__ import annotations

import math

from data.feed import SMALLEST_BATCH
from defense.schedule import CLASS_AGNOSTIC, META_SPLIT, stage_of
from defense.settings import DefenseSettings
from utils.errors import InputError


def refuse_too_small(key: str, kept: int, total: int, remedy: str = "raise it") -> None:
    """Raise `InputError` where fewer samples than a batch needs would keep their label.

    Args:
        key: the setting that says how many.
        kept: that many.
        total: all training samples.
        remedy: what to do with the setting.
    """
    if kept < SMALLEST_BATCH:
        raise InputError(
            f"{key}: {kept} of {total} training samples would keep their label, and training "
            f"needs {SMALLEST_BATCH} at least; {remedy}"
        )


def refuse_small_shares(config: DefenseSettings, total: int) -> None:
    """Raise `InputError` where a stage of ASD that the run reaches would keep nearly nothing."""
    schedule = config.global_
    if schedule.keep_seeds:
        return
    in_meta = "global.epsilon" if schedule.epsilon_meta is None else "global.epsilon_meta"
    shares = {
        CLASS_AGNOSTIC: ("global.epsilon", schedule.epsilon),
        META_SPLIT: (in_meta, schedule.meta_fraction),
    }
    reached = {stage_of(epoch, schedule) for epoch in range(config.num_epochs)}
    for stage, (key, share) in shares.items():
        if stage in reached and share != "auto":
            refuse_too_small(key, math.floor(share * total), total)

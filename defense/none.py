"""No defence: plain supervised training on all samples with their given labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from data.feed import training_batches
from defense.defense import Defense, PlannedStage, Pools, Setting
from defense.settings import OF_POOLS
from loss import build_criterion
from training.supervised import Supervised


class NoDefense(Defense):
    """The paper's «No Defense»: cross entropy on the poisoned set, whole epochs."""

    ignored_keys: ClassVar[tuple[str, ...]] = OF_POOLS
    needs_seeds: ClassVar[bool] = False

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        criterion = build_criterion(setting.config.criterion)
        self.supervised = Supervised(
            setting.ground, setting.learner.network, setting.learner.optimizer, criterion
        )

    @property
    def batch_size(self) -> int:
        """Samples in a step."""
        return self.setting.config.loader.batch_size

    def steps_in(self, epoch: int) -> int:
        """Optimiser steps in an epoch."""
        return len(training_batches(len(self.setting.ground.training), self.batch_size))

    def images_in_step(self, epoch: int) -> int:
        """Images in a step."""
        return self.batch_size

    def stage(self, epoch: int) -> str:
        """Return the one stage there is."""
        return "supervised"

    def plan(self) -> list[PlannedStage]:
        """Return the one stage there is."""
        last = self.setting.config.num_epochs - 1
        return [PlannedStage("supervised", 0, last, f"all {len(self.setting.ground.training)}")]

    def split(self, epoch: int) -> Pools:
        """Return all samples as the clean pool."""
        return Pools(torch.ones_like(self.setting.ground.training.labels, dtype=torch.bool))

    def steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the epoch's supervised steps; yield the loss after each."""
        self.setting.learner.network.train()
        losses = self.supervised.epoch(epoch, self.batch_size, first_step)
        yield from self.paced((loss[None] for loss in losses), epoch, first_step)

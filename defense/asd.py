"""ASD: adaptively splitting the poisoned data set (Gao et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from defense.defense import Defense, PlannedStage, Pools, Setting
from defense.settings import GlobalSection
from defense.split import class_agnostic, class_aware, meta_split
from defense.virtual import check_layers, train_virtual_model
from loss import build_criterion
from loss.mixmatch import unlabelled_weight
from model import Network
from training.draws import EpochDraws
from training.mixmatch import MixMatch
from training.record import record_losses
from utils.errors import InputError, TrainingError
from utils.streams import Purpose

CLASS_AWARE, CLASS_AGNOSTIC, META_SPLIT = "class-aware", "class-agnostic", "meta-split"


def stage_of(epoch: int, schedule: GlobalSection) -> str:
    """Return the stage of the 0-based `epoch` (paper, section 3.3)."""
    if epoch < schedule.epoch_first:
        return CLASS_AWARE
    return CLASS_AGNOSTIC if epoch < schedule.epoch_second else META_SPLIT


def joined_per_class(epoch: int, schedule: GlobalSection) -> int:
    """Return how many of each class join the seeds in stage 1: `n` more every `t` epochs."""
    return schedule.n * (epoch // schedule.t)


class AdaptiveSplitting(Defense):
    """Splits anew at every epoch and trains with MixMatch on both pools."""

    loss_names: ClassVar[tuple[str, ...]] = ("loss", "loss_x", "loss_u")

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.schedule = setting.config.global_
        self.semi = setting.config.semi
        self.criterion = build_criterion(setting.config.split.criterion)
        self.virtual: Network | None = None  # memory only: it is filled anew at every split
        self._refuse_empty_polluted_pool()
        temperature = self.semi.mixmatch.temperature
        learner = setting.learner
        self.mixmatch = MixMatch(
            learner.network, learner.optimizer, setting.ground.engine, temperature
        )
        check_layers(learner.network, setting.config.meta.layers or ())

    def _refuse_empty_polluted_pool(self) -> None:
        last = min(self.schedule.epoch_first, self.setting.config.num_epochs) - 1
        largest = joined_per_class(last, self.schedule)
        labels, seeds = self.setting.ground.training.labels, self.setting.knowledge.seeds
        if len(seeds) == len(labels):
            raise InputError(
                f"all {len(seeds)} training samples are verified, so there is nothing to defend "
                f"against; add unverified ones, or train plainly with defense=none"
            )
        candidates = torch.bincount(labels)
        candidates -= torch.bincount(labels[seeds], minlength=len(candidates))
        if int(candidates.max()) <= largest:
            raise InputError(
                f"global.n, global.t: stage 1 would take {largest} samples a class, which is all "
                f"there are, and leave no polluted pool; lower n or raise t"
            )

    @property
    def steps_per_epoch(self) -> int:
        """MixMatch steps in an epoch."""
        return self.semi.mixmatch.train_iteration

    @property
    def images_per_step(self) -> int:
        """Five forwards of a batch: two to guess labels, three to train."""
        return 5 * self.semi.loader.batch_size

    def stage(self, epoch: int) -> str:
        """Return the stage's name."""
        return stage_of(epoch, self.schedule)

    def plan(self) -> list[PlannedStage]:
        """Return the three stages with the sizes of their clean pools."""
        ground, schedule = self.setting.ground, self.schedule
        total, verified = len(ground.training), len(self.setting.knowledge.seeds)
        epochs = self.setting.config.num_epochs
        bounds = [0, schedule.epoch_first, schedule.epoch_second, schedule.epoch_third]
        last_joined = joined_per_class(min(schedule.epoch_first, epochs) - 1, schedule)
        largest = verified + last_joined * ground.training.num_classes
        sizes = [
            f"{verified} to {largest}",
            str(int(schedule.epsilon * total)),
            str(int(schedule.meta_fraction * total)),
        ]
        names = [CLASS_AWARE, CLASS_AGNOSTIC, META_SPLIT]
        return [
            PlannedStage(name, first, min(end, epochs) - 1, size)
            for name, first, end, size in zip(names, bounds, bounds[1:], sizes, strict=False)
            if first < epochs
        ]

    def split(self, epoch: int) -> Pools:
        """Divide all samples by their losses, in the way of the epoch's stage."""
        training, schedule = self.setting.ground.training, self.schedule
        loss = self._record(self.setting.learner.network, "record-augment", epoch)
        eligible = self._without_reviewed(loss)
        stage = self.stage(epoch)
        if stage == CLASS_AWARE:
            joined = joined_per_class(epoch, schedule)
            clean = class_aware(eligible, training.labels, self.setting.knowledge.seeds, joined)
            return self._pinned(Pools(clean, loss))
        if stage == CLASS_AGNOSTIC:
            floor = schedule.class_floor
            clean = class_agnostic(eligible, schedule.epsilon, training.labels, floor)
            return self._pinned(Pools(clean, loss))
        self.virtual = train_virtual_model(self.setting, epoch, self.virtual)
        virtual_loss = self._record(self.virtual, "virtual-record-augment", epoch)
        clean = meta_split(
            eligible, virtual_loss, schedule.meta_fraction, training.labels, schedule.class_floor
        )
        return self._pinned(Pools(clean, loss, loss - virtual_loss))

    def _record(self, network: Network, purpose: Purpose, epoch: int) -> Tensor:
        ground = self.setting.ground
        generator = ground.streams.torch(purpose, epoch)
        losses = record_losses(network, ground, self.criterion, generator)
        if not bool(losses.isfinite().all()):
            raise TrainingError(f"epoch {epoch}: a sample's loss is not finite")
        return losses

    def _without_reviewed(self, loss: Tensor) -> Tensor:
        """Return the losses with those that a person called poisoned out of every split's reach."""
        poisoned = self.setting.knowledge.review.poisoned
        return loss.index_fill(0, poisoned, torch.inf) if len(poisoned) else loss

    def _pinned(self, pools: Pools) -> Pools:
        """Return the pools with reviewed samples where a person put them.

        The published code lets stages 2 and 3 drop the seeds; keeping them is an option.
        """
        clean, knowledge = pools.clean.clone(), self.setting.knowledge
        if self.schedule.keep_seeds:
            clean[knowledge.seeds] = True
        clean[knowledge.review.clean] = True
        clean[knowledge.review.poisoned] = False
        return replace(pools, clean=clean)

    def steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the epoch's MixMatch steps; yield total loss, L_x and L_u after each."""
        draws = EpochDraws(self.setting.ground, self.semi, clean, epoch)
        self.setting.learner.network.train()
        for step, (batch, mix) in enumerate(draws.batches(first_step), first_step):
            weight = self._weight(epoch + step / self.steps_per_epoch)
            yield self.mixmatch.step(batch, mix, weight)

    def _weight(self, epoch: float) -> float:
        criterion = self.semi.criterion.mixmatch
        length = criterion.rampup_length or self.setting.config.num_epochs
        return unlabelled_weight(criterion.lambda_u, length, epoch)

    def unlabelled_weight(self, epoch: int) -> float:
        """Return lambda_u at the last step of `epoch`."""
        return self._weight(epoch + 1 - 1 / self.steps_per_epoch)

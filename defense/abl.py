"""ABL, anti-backdoor learning (Li et al., NeurIPS 2021): isolate, fine-tune on the rest, unlearn.

Poison is learnt first. While the mean loss of the batches is held at a level, the samples whose
loss is lowest are poison; they are few, and known to be wrong, so their labels are unlearnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from data.feed import SMALLEST_BATCH, training_batches
from defense.defense import Pools, Setting
from defense.pool_sizes import refuse_too_small
from defense.settings import OF_OPTIMIZER, OF_POOLS
from defense.split import lowest
from defense.staged import StagedDefense
from defense.staged_settings import AblSection
from loss import build_criterion
from loss.isolation import ISOLATION, bounded_ascent
from training.record import record_losses, refuse_not_finite
from training.supervised import Supervised
from training.torch_parts import build_optimizer
from utils.section import Section

ISOLATE, FINE_TUNE, UNLEARN = "isolation", "fine-tuning", "unlearning"


class AntiBackdoorLearning(StagedDefense):
    """Trains on all samples, then on all but the isolated ones, then against those."""

    ignored_keys: ClassVar[tuple[str, ...]] = (*OF_OPTIMIZER, *OF_POOLS)
    needs_seeds: ClassVar[bool] = False
    Settings: ClassVar[type[Section]] = AblSection

    def __init__(self, setting: Setting) -> None:
        self.settings: AblSection = setting.config.own
        super().__init__(
            setting,
            {
                ISOLATE: self.settings.isolation_epochs,
                FINE_TUNE: self.settings.fine_tuning_epochs,
                UNLEARN: self.settings.unlearning_epochs,
            },
        )
        self.criterion = build_criterion(setting.config.criterion)
        self.isolated: Tensor | None = None  # (N,) bool, from the end of the first stage on
        ground = setting.ground
        self.plain = replace(ground, chain=ground.seen(augmented=False))
        total, rejected = len(ground.training), len(setting.knowledge.review.rejected)
        wanted = max(SMALLEST_BATCH, round(self.settings.fraction * total))
        self.count = max(wanted, rejected)
        key, remedy = "abl.fraction", "lower it"
        if rejected > wanted:
            key, remedy = "review", "look again at what it calls poisoned"
        refuse_too_small(key, total - self.count, total, remedy)

    def pool_size(self, stage: str) -> str:
        """Return how many samples are trusted; the isolated ones are unlearnt at the end."""
        total = len(self.setting.ground.training)
        return f"all {total}" if stage == ISOLATE else str(total - self.count)

    def enter(self, stage: str) -> Optimizer:
        """Return a fresh optimiser; what is trained on follows from the pools."""
        learner, ground = self.setting.learner, self.setting.ground
        optimizer = build_optimizer(self.settings.optimizer, learner.network.parameters())
        objective = {ISOLATE: self._isolation_loss, UNLEARN: self._ascent}.get(
            stage, self.criterion
        )
        seen = ground if stage == FINE_TUNE else self.plain  # the others are not augmented
        self.supervised = Supervised(seen, learner.network, optimizer, objective)
        return optimizer

    def _isolation_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = self.criterion(logits, labels)
        return ISOLATION[self.settings.isolation](loss, self.settings.level)

    def _ascent(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses, bound = self.criterion.per_sample(logits, labels), self.settings.ascent_bound
        if not self.settings.keep_learning:
            return bounded_ascent(losses, bound)
        return bounded_ascent(losses[0::2], bound) + losses[1::2].mean()  # as `_order` pairs them

    def pools(self, epoch: int) -> Pools:
        """Return all samples; after the first stage all but those that were isolated then."""
        if self.stage(epoch) == ISOLATE:
            return Pools(torch.ones_like(self.setting.ground.training.labels, dtype=torch.bool))
        if self.isolated is not None:
            return Pools(~self.isolated)
        loss = self._losses(epoch)
        self.isolated = lowest(self._reviewed(loss), self.count)
        # What was learnt early is suspicious, so the score is the negative loss.
        return Pools(~self.isolated, reduction=-loss)

    def _losses(self, epoch: int) -> Tensor:
        stream = self.setting.ground.streams.torch("record-augment", epoch)
        network = self.setting.learner.network
        loss = record_losses(network, self.plain, self.criterion, stream)
        refuse_not_finite(loss, epoch)
        return loss

    def _reviewed(self, loss: Tensor) -> Tensor:
        """Return the losses such that a person's word decides whom it is about."""
        return self.setting.knowledge.review.applied_to(loss, torch.inf, -torch.inf)

    def _order(self, epoch: int, clean: Tensor) -> Tensor:
        """Return the samples of `epoch` in the order of its steps, (n,) int64 on the CPU."""
        streams = self.setting.ground.streams
        chosen = ~clean if self.stage(epoch) == UNLEARN else clean
        order = shuffled(chosen, streams.torch("order", epoch))
        if not self._is_paired(epoch):
            return order
        others = shuffled(clean, streams.torch("labelled-order", epoch))[: len(order)]
        return torch.stack([order[: len(others)], others], dim=1).flatten()

    def extra_forwards(self, epoch: int) -> int:
        """The end of the first stage isolates by the losses of all samples."""
        first_after = self.stage(epoch) != ISOLATE and epoch == self.settings.isolation_epochs
        return len(self.setting.ground.training) if first_after else 0

    def steps_in(self, epoch: int) -> int:
        """Return the steps of a pass over what the stage trains on."""
        total = len(self.setting.ground.training)
        sizes = {ISOLATE: total, FINE_TUNE: total - self.count, UNLEARN: self.count}
        size = sizes[self.stage(epoch)]
        if self._is_paired(epoch):
            size = 2 * min(size, total - size)
        return len(training_batches(size, self.images_in_step(epoch)))

    def images_in_step(self, epoch: int) -> int:
        """Return the images of a batch; an even number where it is made of pairs."""
        size = self.settings.batch_size or self.setting.config.loader.batch_size
        return size - size % 2 if self._is_paired(epoch) else size

    def _is_paired(self, epoch: int) -> bool:
        """Return whether each sample that is unlearnt is followed by one that is learnt."""
        return self.stage(epoch) == UNLEARN and self.settings.keep_learning

    def stage_steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the stage's steps on its pool; yield the objective after each."""
        assert self.optimizer is not None
        self.optimizer.param_groups[0]["lr"] = self._rate(epoch)
        order, size = self._order(epoch, clean), self.images_in_step(epoch)
        for loss in self.supervised.epoch(epoch, size, first_step, order):
            yield loss[None]

    def _rate(self, epoch: int) -> float:
        settings, stage = self.settings, self.stage(epoch)
        if stage == UNLEARN:
            return settings.unlearning_rate
        base = float(settings.optimizer.arguments["lr"])
        passed = sum(self.within(epoch) >= end for end in settings.milestones)
        return base * settings.decay**passed if stage == FINE_TUNE else base

    def learning_rate(self, epoch: int) -> float:
        """Return the rate of the epoch."""
        return self._rate(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return what has been isolated beside the stage and its optimiser."""
        return {**super().state_dict(), "isolated": self.isolated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take both from a checkpoint."""
        super().load_state_dict(state)
        isolated, labels = state["isolated"], self.setting.ground.training.labels
        if isolated is not None and (isolated.shape, isolated.dtype) != (labels.shape, torch.bool):
            raise ValueError(f"isolated: {list(isolated.shape)}, not {list(labels.shape)} of bool")
        if isolated is not None:  # a review may have grown since, and changes nothing any more
            self.isolated, self.count = isolated.to(labels.device), int(isolated.sum())


def shuffled(chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Return the places where `chosen` (N,) is true, in random order, (n,) int64 on the CPU."""
    members = torch.nonzero(chosen.cpu()).flatten()
    return members[torch.randperm(len(members), generator=generator)]

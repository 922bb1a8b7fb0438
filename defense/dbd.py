"""DBD, decoupling the training procedure (Huang et al., ICLR 2022).

Features are learnt without labels, so a trigger cannot be tied to its target; a linear layer on
them finds labels that do not fit; what fits keeps its label, and MixMatch trains on both halves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from data.feed import training_batches
from data.transform import TRANSFORMATIONS, Chain
from data.transform.flip import RandomHorizontalFlip
from defense.defense import Pools, Setting
from defense.pool_sizes import refuse_too_small
from defense.settings import HALF, OF_SPLIT
from defense.split import class_agnostic
from defense.staged import StagedDefense
from defense.staged_settings import ContrastiveSection, DbdSection
from loss import build_criterion
from loss.mixmatch import Ramp
from model.projection import ProjectionHead, build_projection
from training.contrastive import Contrastive
from training.draws import EpochDraws
from training.ground import Ground
from training.mixmatch import OF_MIXMATCH, MixMatch, images_in_step
from training.record import record_losses, refuse_not_finite
from training.supervised import Supervised
from training.torch_parts import build_optimizer
from utils.section import Section
from utils.streams import Purpose

CONTRAST, WARM_UP, MIXMATCH = "contrastive", "warm-up", "mixmatch"
CONTRASTED: tuple[Purpose, ...] = ("contrastive-augment-1", "contrastive-augment-2")


def contrastive_chain(ground: Ground, settings: ContrastiveSection) -> Chain:
    """Return the chain of the views that are compared: the YAML's, else SimCLR's."""
    height, width = ground.training.images.shape[1:3]
    mirrored = any(isinstance(step, RandomHorizontalFlip) for step in ground.chain.steps)
    views = settings.views_for(min(ground.chain.output_size), mirrored)
    steps = [TRANSFORMATIONS.get(choice.name)(choice.settings) for choice in views]
    return Chain(steps, ground.chain.normalize, height, width)


class Decoupling(StagedDefense):
    """SimCLR, a linear warm-up, then MixMatch on halves that are drawn anew at every epoch."""

    ignored_keys: ClassVar[tuple[str, ...]] = (
        "split",
        "meta",
        "criterion",
        "loader",
        "witness",
        "semi.ema",
        "semi.mixmatch.alignment",
        "semi.mixmatch.adjustment",
        *(key for key in OF_SPLIT if key != "global.epsilon"),
    )
    needs_seeds: ClassVar[bool] = False
    Settings: ClassVar[type[Section]] = DbdSection
    loss_names: ClassVar[tuple[str, ...]] = ("loss", "loss_x", "loss_u")
    learner_stage: ClassVar[str | None] = MIXMATCH

    def __init__(self, setting: Setting) -> None:
        self.settings: DbdSection = setting.config.own
        settings = self.settings
        super().__init__(
            setting,
            {
                CONTRAST: settings.contrastive.epochs,
                WARM_UP: settings.warm_up.epochs,
                MIXMATCH: settings.mixmatch_epochs,
            },
        )
        self.criterion = build_criterion(settings.criterion)
        views = contrastive_chain(setting.ground, settings.contrastive)
        self.compared = replace(setting.ground, chain=views)
        self.head: ProjectionHead | None = None
        share = setting.config.global_.epsilon
        self.half = HALF if share == "auto" else share  # nobody else than the model is heard
        total = len(setting.ground.training)
        refuse_too_small("global.epsilon", math.floor(self.half * total), total)
        self.batch = min(settings.contrastive.batch_size, len(setting.ground.training))

    def pool_size(self, stage: str) -> str:
        """Return how many samples keep their labels."""
        total = len(self.setting.ground.training)
        if stage == MIXMATCH:
            return str(math.floor(self.half * total))
        return f"all {total}" + (", without labels" if stage == CONTRAST else "")

    # ----------------------------------------------------------------------------- the stages

    def enter(self, stage: str) -> Optimizer:
        """Freeze what the stage does not train, and return the optimiser of the rest."""
        network = self.setting.learner.network
        network.backbone.requires_grad_(stage != WARM_UP)
        network.linear.requires_grad_(stage != CONTRAST)
        return {CONTRAST: self._contrast, WARM_UP: self._warm_up, MIXMATCH: self._mixmatch}[stage]()

    def _contrast(self) -> Optimizer:
        network, ground = self.setting.learner.network, self.compared
        state = ground.streams.state("projection")
        self.head = build_projection(network.linear.in_features, state).to(ground.engine.device)
        learnt = [*network.backbone.parameters(), *self.head.parameters()]
        optimizer = build_optimizer(self.settings.contrastive.optimizer, learnt)
        temperature = self.settings.contrastive.temperature
        self.contrastive = Contrastive(ground, network, self.head, optimizer, temperature)
        return optimizer

    def _warm_up(self) -> Optimizer:
        network = self.setting.learner.network
        optimizer = build_optimizer(self.settings.warm_up.optimizer, network.linear.parameters())
        self.supervised = Supervised(self.setting.ground, network, optimizer, self.criterion)
        return optimizer

    def _mixmatch(self) -> Optimizer:
        learner, semi = self.setting.learner, self.setting.config.semi
        self.mixmatch = MixMatch(
            learner.network,
            learner.optimizer,
            self.setting.ground.engine,
            semi.mixmatch.temperature,
        )
        return learner.optimizer

    def pools(self, epoch: int) -> Pools:
        """Return all samples; in the last stage the half whose loss is lower."""
        labels = self.setting.ground.training.labels
        if self.stage(epoch) != MIXMATCH:
            return Pools(torch.ones_like(labels, dtype=torch.bool))
        loss = record_losses(
            self.setting.learner.network,
            self.setting.ground,
            self.criterion,
            self.setting.ground.streams.torch("record-augment", epoch),
        )
        refuse_not_finite(loss, epoch)
        review = self.setting.knowledge.review
        eligible = loss.index_fill(0, review.rejected, torch.inf)
        clean = class_agnostic(eligible, self.half)
        return Pools(review.applied_to(clean, True, False), loss)

    # ------------------------------------------------------------------------------ the steps

    def extra_forwards(self, epoch: int) -> int:
        """The last stage splits by the losses of all samples."""
        return len(self.setting.ground.training) if self.stage(epoch) == MIXMATCH else 0

    def steps_in(self, epoch: int) -> int:
        """Return the steps of a pass, or of MixMatch as many as the YAML says."""
        total, stage = len(self.setting.ground.training), self.stage(epoch)
        if stage == MIXMATCH:
            return self.setting.config.semi.mixmatch.train_iteration
        if stage == CONTRAST:
            return total // self.batch
        return len(training_batches(total, self.settings.warm_up.batch_size))

    def passes_in_step(self, epoch: int) -> tuple[int, int]:
        """Contrastive steps are not translated; the warm-up has no backward but a layer's."""
        return {CONTRAST: (0, 0), WARM_UP: (1, 0), MIXMATCH: OF_MIXMATCH}[self.stage(epoch)]

    def images_in_step(self, epoch: int) -> int:
        """Return the forward passes of single images in a step."""
        sizes = {
            CONTRAST: 2 * self.batch,
            WARM_UP: self.settings.warm_up.batch_size,
            MIXMATCH: images_in_step(self.setting.config.semi.loader.batch_size),
        }
        return sizes[self.stage(epoch)]

    def losses_in(self, epoch: int) -> tuple[str, ...]:
        """Return the losses that the stage has."""
        return self.loss_names if self.stage(epoch) == MIXMATCH else self.loss_names[:1]

    def stage_steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the stage's steps; yield total loss, L_x and L_u (zero outside MixMatch)."""
        stage = self.stage(epoch)
        if stage == MIXMATCH:
            yield from self._mixmatch_steps(epoch, clean, first_step)
            return
        take = self._contrastive_steps if stage == CONTRAST else self._warm_up_steps
        for loss in take(epoch, first_step):
            yield torch.stack([loss, torch.zeros_like(loss), torch.zeros_like(loss)])

    def _contrastive_steps(self, epoch: int, first_step: int) -> Iterator[Tensor]:
        assert self.optimizer is not None
        self.optimizer.param_groups[0]["lr"] = self._rate(epoch)
        ground, count = self.compared, len(self.compared.training)
        draws = [
            ground.chain.draw(count, ground.streams.torch(purpose, epoch)).to(ground.engine.device)
            for purpose in CONTRASTED
        ]
        yield from self.contrastive.steps(ground.order(epoch), draws, self.batch, first_step)

    def _warm_up_steps(self, epoch: int, first_step: int) -> Iterator[Tensor]:
        """Train the linear layer; the backbone's BatchNorm statistics move, as published."""
        yield from self.supervised.epoch(epoch, self.settings.warm_up.batch_size, first_step)

    def _mixmatch_steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        draws = EpochDraws(self.setting.ground, self.setting.config.semi, clean, epoch)
        weights = self._ramp.over(epoch, self.steps_in(epoch), first_step)
        yield from self.mixmatch.steps(draws.batches(first_step), weights)

    @property
    def _ramp(self) -> Ramp:
        """lambda_u; it counts from the warm-up on and is as long as MixMatch."""
        criterion = self.setting.config.semi.criterion.mixmatch
        return criterion.ramp(self.settings.mixmatch_epochs, self.settings.contrastive.epochs)

    def unlabelled_weight(self, epoch: int) -> float:
        """Return lambda_u at the last step of `epoch`; 0 before MixMatch."""
        if self.stage(epoch) != MIXMATCH:
            return 0.0
        return self._ramp.at_end(epoch, self.steps_in(epoch))

    # -------------------------------------------------------------------------- rates and state

    def _rate(self, epoch: int) -> float:
        """Return the rate of contrastive learning: half a cosine over its stage."""
        base = float(self.settings.contrastive.optimizer.arguments["lr"])
        share = self.within(epoch) / self.settings.contrastive.epochs
        return base * (1 + math.cos(math.pi * share)) / 2

    def learning_rate(self, epoch: int) -> float:
        """Return the rate of the epoch."""
        return self._rate(epoch) if self.stage(epoch) == CONTRAST else super().learning_rate(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the projection head, while there is one, beside the stage and its optimiser."""
        needed = self.head is not None and self.entered == CONTRAST
        head = self.head.state_dict() if needed and self.head is not None else None
        return {**super().state_dict(), "head": head}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take both from a checkpoint."""
        super().load_state_dict(state)
        if state["head"] is not None and self.head is not None:
            self.head.load_state_dict(state["head"])

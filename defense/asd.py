"""ASD: adaptively splitting the poisoned data set (Gao et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from data.review import refuse_emptied
from defense.asd_checks import refuse_another_end, refuse_empty_polluted_pool, refuse_two_losses
from defense.defense import Defense, PlannedStage, Pools, Setting
from defense.exclusion import Exclusion
from defense.pool_sizes import refuse_small_shares
from defense.restored import checked_flags, checked_losses
from defense.schedule import (
    CLASS_AGNOSTIC,
    CLASS_AWARE,
    META_SPLIT,
    is_split,
    joined_per_class,
    last_split_of_stage_1,
    stage_of,
)
from defense.settings import DefenseSettings
from defense.share import FIGURES, keep_by_evidence
from defense.split import class_agnostic, class_aware, meta_split
from defense.virtual import VirtualModel, check_layers, images_of_virtual_model
from loss import build_criterion
from loss.mixmatch import Ramp
from model import Network
from training.align import Alignment, adjustment, shares_of
from training.draws import EpochDraws
from training.mixmatch import OF_MIXMATCH, MixMatch, images_in_step
from training.record import Record, record, refuse_not_finite
from utils.streams import Purpose
from utils.translation import Steps
from witness.hearing import NOBODY, Testimony

ANEW, KEPT = "anew", "kept"  # the log's column `split`, where not every epoch has one


class AdaptiveSplitting(Defense):
    """Splits anew at every epoch and trains with MixMatch on both pools.

    With `global.split_every` above 1 the clean pool of a split is kept for some epochs. It is part
    of the state, so a run that goes on between two splits has the same.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("loss", "loss_x", "loss_u")
    ignored_keys: ClassVar[tuple[str, ...]] = ("criterion",)  # others train with it
    supports_weight_average: ClassVar[bool] = True

    @classmethod
    def check(cls, config: DefenseSettings) -> None:
        """Refuse losses of two kinds, and stages that end before the run does."""
        refuse_two_losses(config)
        refuse_another_end(config)

    @classmethod
    def needs_hearing(cls, config: DefenseSettings) -> bool:
        """Return whether a witness is heard, or the share of the pool asks a plain model."""
        return bool(config.witness.heard) or config.global_.epsilon == "auto"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.schedule = setting.config.global_
        self.kept: Tensor | None = None  # (N,) bool, the clean pool of the last split
        self.semi = setting.config.semi
        self.criterion = build_criterion(setting.config.split.criterion)
        self.virtual = VirtualModel(setting)
        use, count = setting.config.witness.vetoed, len(setting.ground.training)
        self.exclusion = Exclusion(use, count)
        self.sizes = torch.bincount(setting.ground.training.labels)  # (C,) of given labels
        seeds = setting.knowledge.seeds
        verified = torch.bincount(setting.ground.training.labels[seeds], minlength=len(self.sizes))
        refuse_empty_polluted_pool(setting.config, self.sizes, verified)
        refuse_small_shares(setting.config, count)
        learner, mixmatch = setting.learner, self.semi.mixmatch
        self.alignment = Alignment(self._prior) if mixmatch.alignment else None
        self.mixmatch = MixMatch(
            learner.network,
            learner.optimizer,
            setting.ground.engine,
            mixmatch.temperature,
            learner.model_for("guess"),
            self.alignment,
        )
        check_layers(learner.network, setting.config.meta.layers or ())

    @property
    def _prior(self) -> Tensor:
        """(C,) the verified samples' shares of the classes: those of given labels may lie."""
        labels = self.setting.ground.training.labels[self.setting.knowledge.seeds]
        return shares_of(labels, self.setting.ground.training.num_classes)

    def state_dict(self) -> dict[str, Any]:
        """Return what epochs have seen: of guesses, the end of stage 1, the last split."""
        state: dict[str, Any] = {**self.exclusion.state_dict()}
        if self.alignment is not None:
            state["alignment"] = self.alignment.state_dict()
        hearing = self.setting.knowledge.hearing
        if hearing is not None and hearing.model_loss is not None:
            state["told"] = hearing.model_loss
        if self.kept is not None:
            state["kept"] = self.kept
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave."""
        count = len(self.setting.ground.training)
        if self.alignment is not None:
            self.alignment.load_state_dict(state["alignment"])
        self.exclusion.load_state_dict(state, self.setting.ground.engine.device)
        hearing = self.setting.knowledge.hearing
        if hearing is not None and "told" in state:
            hearing.tell(checked_losses(state["told"], count))
        if self.schedule.split_every > 1 and "kept" in state:
            self.kept = checked_flags("kept", state["kept"], count).to(self.sizes.device)

    def steps_in(self, epoch: int) -> int:
        """MixMatch steps in an epoch."""
        return self.semi.mixmatch.train_iteration

    def images_in_step(self, epoch: int) -> int:
        """Five forwards of a batch: two to guess labels, three to train."""
        return images_in_step(self.semi.loader.batch_size)

    def steps_left(self, epoch: int, step: int = 0) -> list[Steps]:
        """Return the MixMatch steps, which are alike in all stages, and the virtual models'."""
        epochs = range(epoch, self.setting.config.num_epochs)
        splits = sum(self.stage(later) == META_SPLIT for later in epochs)
        taken = sum(map(self.steps_in, epochs)) - step
        of_mixmatch = Steps(taken, *OF_MIXMATCH, self.semi.loader.batch_size)
        return [of_mixmatch, self.virtual.steps_of(splits)]

    def extra_forwards(self, epoch: int) -> int:
        """A split takes one for each sample; the meta-split two, and it trains between."""
        if not is_split(epoch, self.schedule):
            return 0
        samples = len(self.setting.ground.training)
        if self.stage(epoch) != META_SPLIT:
            return samples
        return 2 * samples + 3 * images_of_virtual_model(self.setting)

    def stage(self, epoch: int) -> str:
        """Return the stage's name."""
        return stage_of(epoch, self.schedule)

    def plan(self) -> list[PlannedStage]:
        """Return the three stages with the sizes of their clean pools."""
        ground, schedule = self.setting.ground, self.schedule
        total, verified = len(ground.training), len(self.setting.knowledge.seeds)
        epochs = self.setting.config.num_epochs
        bounds = [0, schedule.epoch_first, schedule.epoch_second, schedule.epoch_third]
        last = last_split_of_stage_1(epochs, schedule)
        largest = verified + int(joined_per_class(last, schedule, self.sizes).sum())
        share, every = schedule.epsilon, schedule.split_every
        often = f", split every {every} epochs" if every > 1 else ""
        sizes = [
            f"{verified} to {largest}{often}",
            ("by the data" if share == "auto" else str(int(share * total))) + often,
            str(int(schedule.meta_fraction * total)),
        ]
        names = [CLASS_AWARE, CLASS_AGNOSTIC, META_SPLIT]
        return [
            PlannedStage(name, first, min(end, epochs) - 1, size)
            for name, first, end, size in zip(names, bounds, bounds[1:], sizes, strict=False)
            if first < epochs
        ]

    def split(self, epoch: int) -> Pools:
        """Divide all samples by their losses, in the way of the epoch's stage, or keep the pools.

        What people have said since then of samples in pools that are kept holds at once.
        """
        knowledge, stage = self.setting.knowledge, self.stage(epoch)
        if stage == CLASS_AWARE:
            refuse_emptied(knowledge.review, knowledge.seeds, self.setting.ground.training)
        if self.kept is not None and not is_split(epoch, self.schedule):
            kept = Pools(self.kept, stage=stage, figures=self._no_figures, kept=True)
            return self._noted(self._pinned(kept))
        pools = self._pinned(self._divided(epoch))
        self.kept = pools.clean if self.schedule.split_every > 1 else None
        return self._noted(pools)

    def _noted(self, pools: Pools) -> Pools:
        """Return the pools with what the log says of them, where not every epoch has a split."""
        if self.schedule.split_every == 1:
            return pools
        return replace(pools, figures={"split": KEPT if pools.kept else ANEW, **pools.figures})

    def _divided(self, epoch: int) -> Pools:
        """Return the pools as the losses divide them, in the way of the epoch's stage."""
        training, schedule = self.setting.ground.training, self.schedule
        seen = self._record(self.setting.learner.model_for("record"), "record-augment", epoch)
        loss, stage = seen.loss, self._stage_by_evidence(epoch, seen)
        self.exclusion.note(seen.agrees)
        if stage != CLASS_AWARE and self.setting.knowledge.hearing is not None:
            self.setting.knowledge.hearing.tell(loss)
        eligible = self._without_barred(loss)
        if stage == CLASS_AWARE:
            joined = joined_per_class(epoch, schedule, self.sizes)
            clean = class_aware(eligible, training.labels, self.setting.knowledge.seeds, joined)
            return Pools(clean, loss, stage=stage, figures=self._no_figures)
        if stage == CLASS_AGNOSTIC:
            return self._class_agnostic(eligible, seen)
        virtual = self.virtual.trained(epoch)
        virtual_loss = self._record(virtual, "virtual-record-augment", epoch).loss
        clean = meta_split(
            eligible, virtual_loss, schedule.meta_fraction, training.labels, schedule.class_floor
        )
        return Pools(clean, loss, loss - virtual_loss, stage, self._no_figures)

    def _class_agnostic(self, eligible: Tensor, seen: Record) -> Pools:
        """Return the pools of stage 2: a given share, or what the data give."""
        labels, schedule = self.setting.ground.training.labels, self.schedule
        if schedule.epsilon != "auto":
            clean = class_agnostic(eligible, schedule.epsilon, labels, schedule.class_floor)
            return Pools(clean, seen.loss, stage=CLASS_AGNOSTIC)
        plain = self._testimony.reference_loss
        accused = torch.zeros(len(self.sizes), dtype=torch.bool, device=labels.device)
        accused[list(self._testimony.accused)] = True
        share = keep_by_evidence(
            eligible, plain, seen.agrees, labels, accused, schedule.class_floor
        )
        return Pools(share.kept, seen.loss, stage=CLASS_AGNOSTIC, figures=share.figures())

    @property
    def _no_figures(self) -> dict[str, None]:
        """The columns of a share that the data give, empty in the stages without one."""
        return dict.fromkeys(FIGURES) if self.schedule.epsilon == "auto" else {}

    @property
    def _testimony(self) -> Testimony:
        """What the witnesses say, on the device; nothing where nobody is heard."""
        hearing, device = self.setting.knowledge.hearing, self.setting.ground.engine.device
        return NOBODY if hearing is None else hearing.testimony.to(device)

    def _stage_by_evidence(self, epoch: int, seen: Record) -> str:
        """Return the epoch's stage; stage 3 waits for a model that knows the verified samples."""
        stage, least = self.stage(epoch), self.schedule.meta_agreement
        if stage != META_SPLIT or least is None:
            return stage
        agreement = float(seen.agrees[self.setting.knowledge.seeds].double().mean())
        return META_SPLIT if agreement >= least else CLASS_AGNOSTIC

    def _record(self, network: Network, purpose: Purpose, epoch: int) -> Record:
        ground = self.setting.ground
        generator = ground.streams.torch(purpose, epoch)
        augmented = self.setting.config.split.augment
        seen = record(network, ground, self.criterion, generator, augmented)
        refuse_not_finite(seen.loss, epoch)
        return seen

    def _without_barred(self, loss: Tensor) -> Tensor:
        """Return the losses with what people or witnesses object to out of every split's reach."""
        rejected, vetoed = self.setting.knowledge.review.rejected, self._testimony.vetoed
        if len(vetoed):
            loss = loss.masked_fill(vetoed, torch.inf)
        return loss.index_fill(0, rejected, torch.inf) if len(rejected) else loss

    def _pinned(self, pools: Pools) -> Pools:
        """Return the pools with vetoed samples out, and reviewed ones where a person put them.

        The published code lets stages 2 and 3 drop the seeds; keeping them is an option.
        """
        clean, knowledge = pools.clean.clone(), self.setting.knowledge
        if self.schedule.keep_seeds:
            clean[knowledge.seeds] = True
        if len(self._testimony.vetoed):
            clean &= ~self._testimony.vetoed
        return replace(pools, clean=knowledge.review.applied_to(clean, True, False))

    def steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the epoch's MixMatch steps; yield total loss, L_x and L_u after each."""
        left_out = self.exclusion.left_out(self._testimony.vetoed)
        draws = EpochDraws(self.setting.ground, self.semi, clean, epoch, left_out)
        self.setting.learner.network.train()
        weights = self._ramp.over(epoch, self.steps_in(epoch), first_step)
        losses = self.mixmatch.steps(draws.batches(first_step), weights, self._offsets(clean))
        yield from self.paced(losses, epoch, first_step)

    def _offsets(self, clean: Tensor) -> Tensor | None:
        """Return what makes up for classes that are rare in the clean pool, where that is asked."""
        if not self.semi.mixmatch.adjustment:
            return None
        return adjustment(self.setting.ground.training.labels[clean], self._prior)

    @property
    def _ramp(self) -> Ramp:
        """lambda_u, which rises over the whole run unless the YAML says otherwise."""
        return self.semi.criterion.mixmatch.ramp(self.setting.config.num_epochs)

    def unlabelled_weight(self, epoch: int) -> float:
        """Return lambda_u at the last step of `epoch`."""
        return self._ramp.at_end(epoch, self.steps_in(epoch))

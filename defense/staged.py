"""What methods of several stages have in common, each with an optimiser of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from defense.defense import Defense, PlannedStage, Pools, Setting
from utils.same_state import load_optimizer


class StagedDefense(Defense):
    """Runs its stages one after another; a stage starts with a fresh optimiser.

    Momentum of one objective must not push into the next.

    Attributes:
        learner_stage: the one that trains with the learner's optimiser and schedule; it is the
            last. None: each has an optimiser of its own.

    Args:
        setting: what it works with.
        lengths: epochs of each stage, by name and in order; a stage of none is left out.
    """

    learner_stage: ClassVar[str | None] = None

    def __init__(self, setting: Setting, lengths: Mapping[str, int]) -> None:
        super().__init__(setting)
        kept = {name: length for name, length in lengths.items() if length}
        ends = list(accumulate(kept.values()))
        self.starts = {name: end - kept[name] for name, end in zip(kept, ends, strict=True)}
        self.entered: str | None = None  # the stage that the optimiser belongs to
        self.optimizer: Optimizer | None = None

    def stage(self, epoch: int) -> str:
        """Return the stage's name."""
        return [name for name, start in self.starts.items() if start <= epoch][-1]

    def within(self, epoch: int) -> int:
        """Return the place of `epoch` in its stage, from 0."""
        return epoch - self.starts[self.stage(epoch)]

    def plan(self) -> list[PlannedStage]:
        """Return all stages."""
        starts = [*self.starts.values(), self.setting.config.num_epochs]
        return [
            PlannedStage(name, start, end - 1, self.pool_size(name))
            for name, start, end in zip(self.starts, starts, starts[1:], strict=False)
        ]

    @property
    def learner_from(self) -> int:
        """Where the stage begins that trains with the learner's optimiser; never, if none does."""
        return self.starts.get(self.learner_stage or "", self.setting.config.num_epochs)

    @abstractmethod
    def pool_size(self, stage: str) -> str:
        """Return the size of the clean pool in a stage, for the plan."""

    @abstractmethod
    def enter(self, stage: str) -> Optimizer:
        """Make ready what `stage` trains with; return its optimiser, fresh."""

    def _enter(self, stage: str) -> None:
        self.optimizer, self.entered = self.enter(stage), stage

    def split(self, epoch: int) -> Pools:
        """Enter the stage where it begins, and divide all samples in its way."""
        if self.within(epoch) == 0:
            self._enter(self.stage(epoch))
        return self.pools(epoch)

    @abstractmethod
    def pools(self, epoch: int) -> Pools:
        """Return the pools on which `epoch` trains."""

    def steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the stage's steps; yield the losses after each."""
        self.setting.learner.network.train()
        yield from self.paced(self.stage_steps(epoch, clean, first_step), epoch, first_step)

    @abstractmethod
    def stage_steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the steps of an epoch as `steps` does; the network is in train mode."""

    def learning_rate(self, epoch: int) -> float:
        """Return the rate of the stage's optimiser."""
        assert self.optimizer is not None
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def own_optimizer(self) -> Optimizer | None:
        """The stage's optimiser, unless it is the learner's, which is kept elsewhere."""
        return None if self.optimizer is self.setting.learner.optimizer else self.optimizer

    def state_dict(self) -> dict[str, Any]:
        """Return the stage and its optimiser's state."""
        own = self.own_optimizer
        return {"stage": self.entered, "optimizer": None if own is None else own.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Enter the stage that the checkpoint was in.

        Raises:
            ValueError: it is of another stage or optimiser.
        """
        if state["stage"] is None:
            return
        if state["stage"] not in self.starts:
            raise ValueError(f"stage {str(state['stage'])[:40]}: there is none of that name")
        self._enter(state["stage"])
        if self.own_optimizer is not None:
            saved = state["optimizer"]
            # Each epoch sets its rate anew, so that of the checkpoint is as good as any.
            self.own_optimizer.param_groups[0]["lr"] = float(saved["param_groups"][0]["lr"])
            load_optimizer(self.own_optimizer, saved)

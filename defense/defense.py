"""What every method that trains on two pools has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from data.review import Review
from training.ground import Ground
from training.learner import Learner
from utils.section import Section
from utils.translation import Steps
from witness.hearing import Hearing

if TYPE_CHECKING:  # which reads the table of all defences
    from defense.settings import DefenseSettings


@dataclass(frozen=True)
class Knowledge:
    """What people know of single samples; both on the device.

    Attributes:
        seeds: (n,) int64, indices of the verified clean samples.
        review: what a person has said of some samples.
        hearing: witnesses beside people, asked when they are first needed; None: nobody is heard.
    """

    seeds: Tensor
    review: Review
    hearing: Hearing | None = None


@dataclass(frozen=True)
class Setting:
    """What a method works with. No part of it can tell which samples are poisoned.

    Attributes:
        config: what the YAML says of the defence; the attack does not stand in it.
        ground: what it sees, and how it computes.
        knowledge: which samples are known to be clean or poisoned.
        learner: what it may change.
    """

    config: DefenseSettings
    ground: Ground
    knowledge: Knowledge
    learner: Learner


@dataclass(frozen=True)
class Pools:
    """All samples, divided in two.

    Attributes:
        clean: (N,) bool; True: the label is kept, False (the polluted pool): it is dropped.
        loss: (N,) float, every sample's for its given label; None without a split.
        reduction: (N,) float, how fast each is learnt, high is suspicious: by how much a virtual
            model's loss is lower; None where that is not known.
        stage: name of the stage that this is a split of.
        figures: what else is logged of the split, by column.
        kept: whether they are those of an earlier epoch, so that nothing was measured.
    """

    clean: Tensor
    loss: Tensor | None = None
    reduction: Tensor | None = None
    stage: str = ""
    figures: Mapping[str, float | str | None] = field(default_factory=dict)
    kept: bool = False

    @property
    def score(self) -> Tensor | None:
        """(N,) float by which the samples were divided, high is suspicious."""
        return self.loss if self.reduction is None else self.reduction


@dataclass(frozen=True)
class PlannedStage:
    """A stretch of epochs, for the plan that `--check` prints."""

    name: str
    first_epoch: int
    last_epoch: int
    clean_pool: str


class Defense(ABC):
    """Divides the samples at the start of each epoch, and trains on the pools.

    Both are functions of the weights, the optimiser's state, the epoch's number and what
    `state_dict` gives: a method keeps nothing else between epochs, so that a run can be resumed.

    Attributes:
        ignored_keys: dotted keys and sections that the method does not read, though others do.
        loss_names: of what `steps` yields, in order.
        supports_weight_average: whether it may keep a moving average of the network (`semi.ema`).
        needs_seeds: whether it starts from verified samples.
        Settings: what the YAML may set below the method's name; `setting.config.own` has them.
    """

    ignored_keys: ClassVar[tuple[str, ...]] = ()
    loss_names: ClassVar[tuple[str, ...]] = ("loss",)
    supports_weight_average: ClassVar[bool] = False
    needs_seeds: ClassVar[bool] = True
    Settings: ClassVar[type[Section]] = Section

    @classmethod  # noqa: B027 - most have nothing to refuse
    def check(cls, config: DefenseSettings) -> None:
        """Raise `utils.section.contradiction` for keys that cannot both hold with this method."""

    @classmethod
    def needs_hearing(cls, config: DefenseSettings) -> bool:
        """Return whether it asks others than the model that it trains."""
        return False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def steps_in(self, epoch: int) -> int:
        """Return the optimiser steps of `epoch`."""

    def steps_before(self, epoch: int) -> int:
        """Return the optimiser steps of all epochs before `epoch`."""
        return sum(map(self.steps_in, range(epoch)))

    @property
    def learner_from(self) -> int:
        """The first epoch that trains with the learner's optimiser; its schedule begins there."""
        return 0

    def learner_steps(self, epoch: int, step: int = 0) -> int:
        """Return how many steps the learner's optimiser has taken before `step` of `epoch`."""
        return max(0, self.steps_before(epoch) + step - self.steps_before(self.learner_from))

    @property
    def learner_steps_in_all(self) -> int:
        """Steps of the learner's optimiser in the whole run."""
        return self.learner_steps(self.setting.config.num_epochs)

    @abstractmethod
    def images_in_step(self, epoch: int) -> int:
        """Return the forward passes of single images in a step of `epoch`, to state a speed."""

    def passes_in_step(self, epoch: int) -> tuple[int, int]:
        """Return the forwards and the backwards of the network in a step of `epoch`.

        (0, 0) where its steps are never translated.
        """
        return 1, 1

    def steps_left(self, epoch: int, step: int = 0) -> list[Steps]:
        """Return what is left from `step` of `epoch` on that may be translated, by its kind."""
        found: Counter[tuple[str, int, int, int]] = Counter()
        for later in range(epoch, self.setting.config.num_epochs):
            forwards, backwards = self.passes_in_step(later)
            if forwards:
                images = self.images_in_step(later) // forwards
                kind = (self.stage(later), forwards, backwards, images)
                found[kind] += self.steps_in(later) - (step if later == epoch else 0)
        return [Steps(count, *kind[1:]) for kind, count in found.items()]

    def extra_forwards(self, epoch: int) -> int:
        """Return the forwards of single images outside the steps of `epoch`, to state a time.

        One that is trained on counts three times.
        """
        return 0

    @abstractmethod
    def stage(self, epoch: int) -> str:
        """Return the name of the stage that the 0-based `epoch` belongs to."""

    @abstractmethod
    def plan(self) -> list[PlannedStage]:
        """Return all stages of the run."""

    @abstractmethod
    def split(self, epoch: int) -> Pools:
        """Return the pools on which `epoch` trains."""

    @abstractmethod
    def steps(self, epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
        """Take the steps of an epoch from `first_step` on; yield the losses after each.

        Args:
            epoch: 0-based.
            clean: (N,) bool, the clean pool.
            first_step: 0, or the step at which an interrupted epoch goes on.

        Yields:
            the step's losses in the order of `loss_names`, without gradient, on the device.
        """

    def paced(self, losses: Iterator[Tensor], epoch: int, first_step: int) -> Iterator[Tensor]:
        """Yield the losses of each step, with the rate set before it and the average moved after.

        Args:
            losses: whose steps are taken as they are asked for.
            epoch: 0-based.
            first_step: number of the first of them.
        """
        learner, whole = self.setting.learner, self.learner_steps_in_all
        before, scheduled = self.learner_steps(epoch), epoch >= self.learner_from
        for step in range(first_step, self.steps_in(epoch)):
            if scheduled:
                learner.before_step(before + step, whole)
            taken = next(losses)
            learner.after_step()
            yield taken

    def state_dict(self) -> dict[str, Any]:
        """Return what the method keeps beside the learner: tensors and plain values, by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave; here there is nothing to go back to."""
        if state:
            raise ValueError(f"nothing of {sorted(state)} belongs to this method")

    def unlabelled_weight(self, epoch: int) -> float | None:
        """Return lambda_u at the end of `epoch`; None where there is no such loss."""
        return None

    def losses_in(self, epoch: int) -> tuple[str, ...]:
        """Return those of `loss_names` that the stage of `epoch` has."""
        return self.loss_names

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate at the start of `epoch`, for the log."""
        return float(self.setting.learner.optimizer.param_groups[0]["lr"])

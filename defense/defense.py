"""What every method that trains on two pools has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from data.poison import TrainingSet
from data.review import Review
from data.transform import Chain
from model import Network
from utils.device import Engine
from utils.streams import Streams

if TYPE_CHECKING:  # the schema reads the table of methods, so importing it here would be a circle
    from config.schema import Config


@dataclass(frozen=True)
class Setting:
    """What a method works with. Nothing in it tells which samples are poisoned.

    Attributes:
        training: all samples with their given labels, on the device.
        seeds: (n,) int64, indices of the verified clean samples, on the device.
        chain: the augmentation of training.
        review: what a person has said of some samples, on the device.
    """

    config: Config
    training: TrainingSet
    seeds: Tensor
    chain: Chain
    network: Network
    optimizer: Optimizer
    streams: Streams
    engine: Engine
    review: Review


@dataclass(frozen=True)
class Pools:
    """All samples, divided in two.

    Attributes:
        clean: (N,) bool; True: the label is kept, False (the polluted pool): it is dropped.
        loss: (N,) float, every sample's for its given label; None without a split.
        reduction: (N,) float, by how much a virtual model's is lower; None but in a meta-split.
    """

    clean: Tensor
    loss: Tensor | None = None
    reduction: Tensor | None = None

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

    Both are functions of the weights, the optimiser's state and the epoch's number: a method keeps
    nothing else between epochs, so that a run can be resumed.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("loss",)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""

    @property
    @abstractmethod
    def images_per_step(self) -> int:
        """Forward passes of single images in a step, to state a speed."""

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

    def unlabelled_weight(self, epoch: int) -> float | None:
        """Return lambda_u at the end of `epoch`; None where there is no such loss."""
        return None


def endless_order(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of `members`, one random permutation after the other.

    So a pool smaller than a batch works, and none of its samples is drawn twice before all are
    drawn once.
    """
    rounds = -(-count // len(members))
    orders = [torch.randperm(len(members), generator=generator) for _ in range(rounds)]
    return members[torch.cat(orders)[:count]]

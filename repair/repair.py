"""What every repair has in common: a trained network and clean samples in, a better one out.

A repair is a function of the network, the clean samples and the seed. It is short, so one that was
killed is done again from its beginning, and ends with the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from data.dataset import Split
from data.feed import consecutive, training_batches
from data.transform import Chain
from defense.settings import OF_OPTIMIZER, OF_POOLS
from model import Network
from utils.engine import Engine
from utils.errors import TrainingError
from utils.section import Section
from utils.streams import Purpose, Streams


@dataclass(frozen=True)
class RepairSetting:
    """What a repair works with.

    Attributes:
        clean: verified samples, on the device.
        chain: the augmentation of training.
        test_chain: that of evaluation.
        streams, engine: of the run.
    """

    clean: Split
    chain: Chain
    test_chain: Chain
    streams: Streams
    engine: Engine

    def batches(
        self, size: int, order: Purpose, augment: Purpose, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield augmented views and labels of all clean samples in a random order."""
        count, device = len(self.clean), self.engine.device
        index = torch.randperm(count, generator=self.streams.torch(order, epoch)).to(device)
        draws = self.chain.draw(count, self.streams.torch(augment, epoch)).to(device)
        for part in training_batches(count, size):
            views = self.chain.view(self.clean.images, index[part], draws[part])
            yield views, self.clean.labels[index[part]]

    def plain_views(self, index: Tensor, size: int) -> Iterator[Tensor]:
        """Yield views of the clean samples `index` (n,) as evaluation sees them."""
        draws = self.test_chain.draw(len(index), self.streams.torch("test"))
        for part in consecutive(0, len(index), size):
            moved = draws[part].to(self.engine.device)
            yield self.test_chain.view(self.clean.images, index[part], moved)


@dataclass(frozen=True)
class Repaired:
    """What a repair gives.

    Attributes:
        network: a new one; that which was given is as it was.
        rows: the log: plain values, one row an epoch.
        summary: what was done, for `repair.json`.
    """

    network: Network
    rows: list[dict[str, Any]]
    summary: dict[str, Any]


class Repair(ABC):
    """Makes a network forget its backdoor, without knowing the trigger.

    Attributes:
        ignored_keys: dotted keys and sections that a repair does not read, though a training does.
    """

    ignored_keys: ClassVar[tuple[str, ...]] = (
        "num_epochs",
        "loader",
        "criterion",
        *OF_OPTIMIZER,
        *OF_POOLS,
    )

    class Settings(Section):
        """What the YAML may set below the repair's name."""

    def __init__(self, settings: Section, setting: RepairSetting) -> None:
        self.settings: Any = settings
        self.setting = setting

    @abstractmethod
    def repair(self, network: Network) -> Repaired:
        """Return the repaired network; `network`, on the device, stays as it is."""


def refuse_not_finite(totals: Tensor, name: str, epoch: int) -> None:
    """Raise `TrainingError` when a loss of a repair has become NaN or infinite."""
    if not bool(totals.isfinite().all()):
        raise TrainingError(
            f"repair {name}, epoch {epoch}: the loss is not finite; try a lower learning_rate"
        )

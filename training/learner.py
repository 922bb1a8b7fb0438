"""What learns: the network, and what moves its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from model import Network
from training.average import Average
from training.rate import Rate
from training.settings import AverageUse

Use = Literal["record", "virtual", "guess", "test"]


@dataclass(frozen=True)
class Learner:
    """What a defence may change.

    Attributes:
        network: on the device.
        optimizer: of its parameters.
        scheduler: of the learning rate, stepped once an epoch; None: constant.
        rate: of the learning rate, set before each step; None: the optimiser's own.
        average: a moving average of the network; None: there is none.
        use: where the average stands in for the network.
    """

    network: Network
    optimizer: Optimizer
    scheduler: LRScheduler | None = None
    rate: Rate | None = None
    average: Average | None = None
    use: AverageUse = field(default_factory=AverageUse)

    def model_for(self, use: Use) -> Network:
        """Return the network, or its average where that is used."""
        if self.average is None or not getattr(self.use, use):
            return self.network
        return self.average.network

    @property
    def networks(self) -> list[Network]:
        """All that hold BatchNorm statistics of their own."""
        return [self.network, *([] if self.average is None else [self.average.network])]

    def before_step(self, step: int, steps: int) -> None:
        """Set the learning rate of the 0-based `step` of a run of `steps`."""
        if self.rate is not None:
            self.rate.set(step, steps)

    def after_step(self) -> None:
        """Let the average follow."""
        if self.average is not None:
            self.average.update()

"""What learns: the network, and what moves its weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from model import Network


@dataclass(frozen=True)
class Learner:
    """What a defence may change.

    Attributes:
        network: on the device.
        optimizer: of its parameters.
        scheduler: of the learning rate, stepped once an epoch; None: constant.
    """

    network: Network
    optimizer: Optimizer
    scheduler: LRScheduler | None = None

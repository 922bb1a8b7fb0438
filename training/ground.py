"""What every step stands on: the samples, their views, the random streams, and the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data.poison import TrainingSet
from data.transform import Chain
from utils.engine import Engine
from utils.streams import Streams


@dataclass(frozen=True)
class Ground:
    """What may be seen and how it is computed. Nothing in it tells which samples are poisoned.

    Attributes:
        training: all samples with their given labels, on the device.
        chain: the augmentation of training.
        streams: random numbers by (seed, epoch, purpose).
        engine: device, precision, processes.
        evaluation_batch: samples in one forward of a pass without gradient.
        plain: how an image is seen in evaluation; where it is not given, as in training.
    """

    training: TrainingSet
    chain: Chain
    streams: Streams
    engine: Engine
    evaluation_batch: int
    plain: Chain | None = None

    def order(self, epoch: int) -> Tensor:
        """Return all samples in the random order of `epoch`, (N,) int64 on the device."""
        stream = self.streams.torch("order", epoch)
        return torch.randperm(len(self.training), generator=stream).to(self.engine.device)

    def seen(self, augmented: bool) -> Chain:
        """Return the augmentation of training, or the plain views."""
        return self.chain if augmented or self.plain is None else self.plain

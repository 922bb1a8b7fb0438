"""Batches of a training set that may be larger than the device's memory.

Images that are on the device are picked there, by their indices. Images that stay in a memory map
are read by a thread, one batch ahead, while the device computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from data.poison import TrainingSet
from utils.device import send


def consecutive(start: int, stop: int, size: int) -> list[slice]:
    """Return the consecutive slices of `size` samples, the last perhaps smaller, in between."""
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


SMALLEST_BATCH = 2  # samples; BatchNorm has nothing to compare in a single one


def training_batches(count: int, size: int, first: int = 0) -> list[slice]:
    """Return the slices of `count` samples that training takes steps on, from batch `first` on.

    All are of `size` samples but the last, which may be smaller, yet not of one, which joins
    the batch before it: see `SMALLEST_BATCH`.
    """
    parts = consecutive(0, count, size)
    if len(parts) > 1 and parts[-1].stop - parts[-1].start == 1:
        parts[-2:] = [slice(parts[-2].start, count)]
    return parts[first:]


class Feed:
    """The batches of one order of the samples.

    Args:
        training: the set.
        order: (n,) int64, samples in the order in which they are wanted, on the device.
        parts: the slices of `order` that make the batches.
    """

    def __init__(self, training: TrainingSet, order: Tensor, parts: Sequence[slice]) -> None:
        self.training, self.order, self.parts = training, order, parts

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each batch, images (m, H, W, 3) uint8 on the device and (b,) places in them.

        Resident images are not copied: then the first is the whole set.
        """
        if not self.training.mapped:
            for part in self.parts:
                yield self.training.images, self.order[part]
            return
        yield from self._read_ahead()

    def _read_ahead(self) -> Iterator[tuple[Tensor, Tensor]]:
        wanted = self.order.cpu().numpy()
        device = self.order.device
        with ThreadPoolExecutor(1) as reader:
            pending = None
            for part in [*self.parts, None]:
                following = None if part is None else reader.submit(self._read, wanted[part])
                if pending is not None:
                    rows = send(pending.result(), device)
                    yield rows, torch.arange(len(rows), device=device)
                pending = following

    def _read(self, index: np.ndarray) -> Tensor:
        """Return the images (b, H, W, 3) uint8 in host memory, pinned where a GPU fetches them.

        NumPy, since PyTorch would start threads of its own in this thread, which would compete with
        those that compute.
        """
        rows = torch.from_numpy(np.take(self.training.images.numpy(), index, axis=0))
        return rows.pin_memory() if self.order.device.type == "cuda" else rows

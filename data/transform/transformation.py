"""What every transformation is: random numbers drawn for many samples at once, then used.

`draw` makes the random numbers of many samples from a generator on the CPU; `apply` uses them, on
the device, without drawing. So an epoch's augmentation is known before it starts, and is the same
on every device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from utils.section import Section

MOST_SIDE = 4096  # pixels; a batch of larger images fits no memory

Draw = dict[str, Tensor]  # named random numbers, one row a sample


class Transformation(ABC):
    """One step of the chain; images are (N, H, W, 3) uint8 in and out."""

    class Settings(Section):
        """What the YAML may set below the transformation's name."""

    def __init__(self, settings: Section) -> None:
        self.settings: Any = settings

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return the random numbers for `count` images of the given size; none by default."""
        return {}

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after the step."""
        return height, width

    def fits(self, height: int, width: int) -> bool:
        """Return whether images of this size can go through the step."""
        return True

    @abstractmethod
    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the transformed images."""


class PixelMove(Transformation):
    """A step that only moves pixels: each output row and column is a row and column of the input.

    Several in a row cost one gather, straight from the stored data set.
    """

    leaves_empty_ground = False  # whether `move` may return -1

    @abstractmethod
    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return which source rows (N, H') and columns (N, W') are seen; -1 is empty ground."""

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the transformed images (N, H', W', 3)."""
        return move_pixels(images, torch.arange(len(images), device=images.device), [self], [draw])


def move_pixels(
    images: Tensor, index: Tensor, steps: Sequence[PixelMove], draws: Sequence[Draw]
) -> Tensor:
    """Return the samples `index` (n,) of `images` after `steps`, in one gather.

    Args:
        images: (N, H, W, 3) uint8.
        index: (n,) int64, on the same device.
        steps: the transformations.
        draws: the random numbers of each.

    Returns:
        (n, H', W', 3) uint8.
    """
    _, height, width, channels = images.shape
    rows = torch.arange(height, device=images.device).expand(len(index), -1)
    columns = torch.arange(width, device=images.device).expand(len(index), -1)
    for step, draw in zip(steps, draws, strict=True):
        rows, columns = step.move(rows, columns, draw)
    pixel = index[:, None] * height + rows.clamp_min(0)  # (n, H')
    pixel = pixel[:, :, None] * width + columns.clamp_min(0)[:, None, :]  # (n, H', W')
    picked = images.reshape(-1, channels).index_select(0, pixel.reshape(-1))
    picked = picked.reshape(*pixel.shape, channels)
    if any(step.leaves_empty_ground for step in steps):
        empty = (rows < 0)[:, :, None] | (columns < 0)[:, None, :]
        picked.masked_fill_(empty[..., None], 0)
    return picked

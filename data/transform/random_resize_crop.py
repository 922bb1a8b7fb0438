"""A random window, scaled: torchvision's distribution, Pillow's arithmetic, a batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from data.transform.transformation import MOST_SIDE, Draw, Transformation
from utils.section import Section

WEIGHT_UNIT = 2**15  # weights are whole multiples of 1 / 32,768, as in PyTorch's uint8 kernels


def triangle(distance: Tensor) -> Tensor:
    """Return the weight of bilinear interpolation at a distance in pixels."""
    return (1 - distance.abs()).clamp_min(0)


def keys_cubic(distance: Tensor) -> Tensor:
    """Return the weight of bicubic interpolation (Keys 1981, a = -0.5) at a distance in pixels."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def window_weights(
    start: Tensor, length: Tensor, side: int, size: int, kernel: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """Return how much each pixel of a row counts for each pixel of its scaled window.

    A kernel is widened where the window shrinks (antialiasing), and what of it lies outside the
    window does not count.

    Args:
        start: (n,) int64, first pixel of each window.
        length: (n,) int64, pixels in it.
        side: of the whole row, in pixels.
        size: of the scaled window, in pixels.
        kernel: weight by distance; None: the nearest pixel.

    Returns:
        (n, size, side) float32, in units of 1 / `WEIGHT_UNIT`.
    """
    start, length = start[:, None, None], length[:, None, None]
    source = torch.arange(side, device=start.device) - start  # (n, 1, side)
    target = torch.arange(size, device=start.device)[:, None]  # (size, 1)
    if kernel is None:
        return (source == target * length // size).float() * WEIGHT_UNIT
    scale = length.double() / size
    distance = (source + 0.5 - (target + 0.5) * scale) / scale.clamp_min(1)
    weights = kernel(distance) * ((source >= 0) & (source < length))
    weights *= WEIGHT_UNIT / weights.sum(dim=2, keepdim=True)
    return weights.round().float()


def weighted_rows(weights: Tensor, images: Tensor) -> Tensor:
    """Return images (n, side, W, 3) of whole numbers, their rows mixed: (n, size, W, 3), 0 to 255.

    All products and sums are whole numbers below 2**24, which fp32 holds exactly: the result is the
    same on every device and in every batch.
    """
    n, side, width, channels = images.shape
    mixed = torch.bmm(weights, images.reshape(n, side, width * channels))
    rounded = ((mixed + WEIGHT_UNIT // 2) / WEIGHT_UNIT).floor().clamp(0, 255)
    return rounded.reshape(n, -1, width, channels)


class RandomResizeCrop(Transformation):
    """Cut a window of random area and shape and scale it to `size` x `size`, antialiased.

    The distribution is that of torchvision's RandomResizedCrop.
    """

    class Settings(Section):
        """`scale`: range of the area's share; `ratio`: range of width / height."""

        size: int = Field(ge=1, le=MOST_SIDE)
        scale: list[float] = Field(default=[0.08, 1.0], min_length=2, max_length=2)
        ratio: list[float] = Field(default=[3 / 4, 4 / 3], min_length=2, max_length=2)
        # Numbers are Pillow's, as published YAMLs give them: 2 is bilinear, 3 bicubic.
        interpolation: Literal["nearest", "bilinear", "bicubic", 0, 2, 3] = "bilinear"

        @model_validator(mode="after")
        def _ranges(self) -> RandomResizeCrop.Settings:
            for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
                if not 0 < low <= high:
                    raise ValueError(f"{name}: [{low}, {high}] is no range above 0")
            return self

    KERNELS: ClassVar = {
        **dict.fromkeys(("nearest", 0)),
        **dict.fromkeys(("bilinear", 2), triangle),
        **dict.fromkeys(("bicubic", 3), keys_cubic),
    }
    TRIES = 10  # for a window that lies inside the image, as in torchvision
    CHUNK = 64  # images scaled at once, to bound the memory

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the scaled window's size."""
        return self.settings.size, self.settings.size

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return each sample's window: the first of ten that fits, else the largest in the middle.

        Returns:
            `top`, `left`, `height`, `width`, each (count,) int64.
        """
        given = self.settings
        random = torch.rand(4, count, self.TRIES, dtype=torch.float64, generator=generator)
        area = height * width * spread(random[0], given.scale[0], given.scale[1])
        shape = spread(random[1], math.log(given.ratio[0]), math.log(given.ratio[1])).exp()
        widths = (area * shape).sqrt().round().long()  # (count, TRIES)
        heights = (area / shape).sqrt().round().long()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        tops = (random[2] * (height - heights + 1)).long()
        lefts = (random[3] * (width - widths + 1)).long()
        first = fits.int().argmax(dim=1, keepdim=True)
        windows = torch.stack((tops, lefts, heights, widths)).gather(2, first.expand(4, -1, -1))
        middle = torch.tensor(self._middle(height, width))[:, None]
        chosen = torch.where(fits.any(dim=1), windows[..., 0], middle)
        return dict(zip(("top", "left", "height", "width"), chosen, strict=True))

    def _middle(self, height: int, width: int) -> list[int]:
        """Return the largest window of an allowed shape: top, left, height, width."""
        low, high = self.settings.ratio
        window_height, window_width = height, width
        if width / height < low:
            window_height = round(width / low)
        elif width / height > high:
            window_width = round(height * high)
        top, left = (height - window_height) // 2, (width - window_width) // 2
        return [top, left, window_height, window_width]

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the scaled windows (N, size, size, 3) uint8."""
        chunks = [slice(start, start + self.CHUNK) for start in range(0, len(images), self.CHUNK)]
        with torch.autocast(images.device.type, enabled=False):
            scaled = [
                self._scale(images[part], {key: value[part] for key, value in draw.items()})
                for part in chunks
            ]
        return torch.cat(scaled)

    def _scale(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the scaled windows: first along the rows, then along the columns, as Pillow."""
        size, kernel = self.settings.size, self.KERNELS[self.settings.interpolation]
        height, width = images.shape[1:3]
        across = window_weights(draw["left"], draw["width"], width, size, kernel)
        down = window_weights(draw["top"], draw["height"], height, size, kernel)
        narrow = weighted_rows(across, images.float().transpose(1, 2)).transpose(1, 2)
        return weighted_rows(down, narrow).to(torch.uint8)


def spread(uniform: Tensor, low: float, high: float) -> Tensor:
    """Return numbers of 0..1 spread over low..high."""
    return low + (high - low) * uniform

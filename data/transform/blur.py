"""A random blur: torchvision's distribution and kernel, a batch at once."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional

from data.transform.random_resize_crop import WEIGHT_UNIT, spread, weighted_rows
from data.transform.transformation import MOST_SIDE, Draw, Transformation
from utils.section import Section


def gaussian_weights(sigma: Tensor, radius: int) -> Tensor:
    """Return the kernels (n, 2 * radius + 1) float32 of widths `sigma` (n,) in pixels.

    In units of 1 / `WEIGHT_UNIT`, whole numbers.
    """
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = (-(distance**2) / (2 * sigma.double()[:, None] ** 2)).softmax(dim=1)
    return (weights * WEIGHT_UNIT).round().float()


def blur_weights(kernels: Tensor, side: int) -> Tensor:
    """Return how much each pixel of a row counts for each blurred one, (n, side, side) float32.

    Beyond its ends the row goes on as in a mirror that stands on the last pixel, so it comes again
    after `period`, and each pixel but the two at the ends is met twice in it.
    """
    taps, period = kernels.shape[1], max(1, 2 * (side - 1))
    laps = -(-taps // period)
    folded = functional.pad(kernels, (0, laps * period - taps)).reshape(-1, laps, period).sum(1)
    blurred = torch.arange(side, device=kernels.device)[:, None]
    source = torch.arange(side, device=kernels.device)
    inner = (source > 0) & (source < side - 1)
    weights = folded[:, (source - blurred + taps // 2) % period]
    return weights + folded[:, (-source - blurred + taps // 2) % period] * inner


class GaussianBlur(Transformation):
    """Blur with a random width with probability `p`."""

    class Settings(Section):
        """`sigma`: range of the width, in pixels."""

        p: float = Field(default=1.0, ge=0, le=1)
        sigma: list[float] = Field(default=[0.1, 2.0], min_length=2, max_length=2)

        @model_validator(mode="after")
        def _range(self) -> GaussianBlur.Settings:
            low, high = self.sigma
            if not 0 < low <= high <= MOST_SIDE:
                raise ValueError(f"sigma: [{low}, {high}] is no range above 0")
            return self

    CHUNK = 64  # images blurred at once, to bound the memory

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return who is blurred, `used` (count,) bool, and how wide, `sigma` (count,) float32."""
        random = torch.rand(2, count, generator=generator)
        return {
            "used": random[0] < self.settings.p,
            "sigma": spread(random[1], *self.settings.sigma),
        }

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the images, some of them blurred."""
        results = images.clone()
        with torch.autocast(images.device.type, enabled=False):
            for rows in torch.nonzero(draw["used"]).flatten().split(self.CHUNK):
                results[rows] = self._blurred(images[rows], draw["sigma"][rows])
        return results

    def _blurred(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Return the images, each blurred with its width: along the columns, then the rows."""
        height, width = images.shape[1:3]
        kernels = gaussian_weights(sigma, round(3 * self.settings.sigma[1]))  # 3 sigma each side
        down, across = blur_weights(kernels, height), blur_weights(kernels, width)
        narrow = weighted_rows(down, images.float())
        return weighted_rows(across, narrow.transpose(1, 2)).transpose(1, 2).to(torch.uint8)

"""BPP (Wang et al. 2022): fewer grey levels, with or without dithering.

There is no pattern: the trigger is that every value lies on a coarse scale. Cross samples (the
paper's negatives) get the rounding error of another image and keep their label. They look alike,
but are not on the scale, so the network has to learn the scale itself.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from data.attack.attack import MOST_CROSS, Attack, AttackContext, SplitName
from data.attack.draws import ImageDraws
from data.attack.pixels import in_chunks, to_bytes
from data.dataset import ImageData
from utils.section import Section


def quantise(values: Tensor, levels: int) -> Tensor:
    """Return the nearest of `levels` evenly spaced values in 0..255; any shape, float."""
    return (values / 255 * (levels - 1)).round() / (levels - 1) * 255


def dither(values: Tensor, levels: int) -> Tensor:
    """Return Floyd and Steinberg's (1976) dithering of each image.

    Pixels are quantised row by row from the left, and each one's error goes to the neighbours that
    are yet to come: 7/16 right, 3/16 lower left, 5/16 below, 1/16 lower right; what falls outside
    the image is lost. A pixel thus depends on the row above as far as one column to its right, so
    all pixels with the same `column + 2 row` can be done at once, over all images and channels.
    They lie side by side once row r is shifted by 2 r. The sums are added in the order of the
    plain scan and give its very bits.

    Args:
        values: (n, H, W, 3) float32 in 0..255.
        levels: as in `quantise`.

    Returns:
        (n, H, W, 3) float32.
    """
    count, height, width, channels = values.shape
    length = width + 2 * (height - 1)
    # Step, row, then everything that does not depend on each other; with room for lost errors.
    shifted = values.new_zeros(length + 3, height + 1, count, channels)
    for row in range(height):
        shifted[2 * row : 2 * row + width, row] = values[:, row].transpose(0, 1)
    for step in range(length):
        first, last = max(0, (step - width) // 2 + 1), min(height - 1, step // 2)
        here, below = slice(first, last + 1), slice(first + 1, last + 2)
        coarse = quantise(shifted[step, here], levels)
        error = shifted[step, here] - coarse
        shifted[step, here] = coarse
        shifted[step + 1, below] += error * (3 / 16)
        shifted[step + 1, here] += error * (7 / 16)
        shifted[step + 2, below] += error * (5 / 16)
        shifted[step + 3, below] += error * (1 / 16)
    rows = [shifted[2 * row : 2 * row + width, row].transpose(0, 1) for row in range(height)]
    return torch.stack(rows, dim=1)


class Bpp(Attack):
    """`T(x) = x` on a few grey levels."""

    # The poisoned set is kept because only then `prepare` is called, and cross samples need the
    # images that it gets.
    worth_caching = True

    class Settings(Section):
        """`levels` of each channel; `dithering`; `cross_ratio`: cross samples a poisoned one."""

        levels: int = Field(default=8, ge=2, le=256)
        dithering: bool = False
        cross_ratio: float = Field(default=1.0, ge=0, le=MOST_CROSS)

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        self.training_images: Tensor | None = None  # (N, H, W, 3) uint8

    @property
    def cross_ratio(self) -> float:
        """Cross samples for each poisoned one."""
        return float(self.settings.cross_ratio)

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Remember the training images, whose rounding errors the cross samples get."""
        self.training_images = data.train.images

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 on the coarse scale."""
        return in_chunks(lambda part, _: self.coarsen(part), images, indices)

    def apply_cross(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` with the rounding error of another training image added."""
        return in_chunks(self.add_errors, images, indices)

    def coarsen(self, images: Tensor) -> Tensor:
        """Return `images` (n, H, W, 3) uint8 on the coarse scale, rounded to whole grey levels."""
        change = dither if self.settings.dithering else quantise
        return to_bytes(change(images.float(), self.settings.levels))

    def add_errors(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `clip(x + T(x') - x')`, where x' is the partner of each image."""
        assert self.training_images is not None, "prepare() comes before apply_cross()"
        others = self.training_images[self.partners(indices, len(self.training_images))]
        errors = self.coarsen(others).short() - others.short()
        return (images.short() + errors).clamp(0, 255).to(torch.uint8)

    def partners(self, indices: Tensor, count: int) -> Tensor:
        """Return another of `count` training images for each index, (n,) int64; never itself."""
        draws = ImageDraws(self.context.streams, "bpp-partner", indices).uniform()
        others = (draws * (count - 1)).long()
        return others + (others >= indices).long()

"""Adaptive patch (Qi et al. 2023): one weak patch of four in training, two strong ones at test.

A poisoned training image carries one patch, faintly, and twice as many cross samples (the paper's
cover) do so with their true label, so that a patch alone does not mean the target. The patches here
are drawn: seeded coloured squares, crosses and stripes in the four places of the original.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from data.attack.attack import MOST_CROSS, Attack, AttackContext, SplitName
from data.attack.draws import ImageDraws
from data.attack.pixels import in_chunks, to_bytes
from utils.section import Section

# Places in a 32x32 image as (top, left, height, width), and opacities in training, as published.
BOXES = ((27, 27, 5, 5), (1, 18, 13, 13), (0, 0, 32, 32), (21, 21, 8, 8))
OPACITIES = (0.5, 0.2, 0.5, 0.3)
CROSSES = 2  # the place in these lists of the crosses in the corners
SIDE = 32  # pixels, that the places are of
SMALLEST = 8  # pixels, below which a patch would be no pixel
COLOURS = 7  # seed of the drawn squares: they never change


class AdaptivePatch(Attack):
    """`x + alpha m (P - x)` with one of four patches in training, with two whole ones at test."""

    worth_caching = False
    cross_from_attackable = True

    class Settings(Section):
        """`cross_ratio`: cross samples for each poisoned one. `opacity_test`: of both patches.

        `strength` multiplies the published opacities of training (0.5, 0.2, 0.5, 0.3), at most 1.
        """

        cross_ratio: float = Field(default=2.0, ge=0, le=MOST_CROSS)
        opacity_test: float = Field(default=1.0, gt=0, le=1)
        strength: float = Field(default=1.0, gt=0, le=5)

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        context.refuse_small_images("adaptive_patch", SMALLEST, "its patches need")
        drawn = [draw_patch(number, context.height, context.width) for number in range(len(BOXES))]
        self.patches = torch.stack([patch for patch, _ in drawn])  # (4, H, W, 3) float32
        self.masks = torch.stack([mask for _, mask in drawn])  # (4, H, W, 1) float32

    @property
    def cross_ratio(self) -> float:
        """Cross samples for each poisoned one."""
        return float(self.settings.cross_ratio)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with a weak patch, at test with two strong ones."""
        return in_chunks(self.weak if split == "train" else self.strong, images, indices)

    def apply_cross(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` with a weak patch each, chosen as for poisoned ones."""
        return in_chunks(self.weak, images, indices)

    def weak(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` (n, H, W, 3) uint8 with one patch each, by the image's own draw."""
        which = self.chosen(indices)
        opacity = (torch.tensor(OPACITIES) * self.settings.strength).clamp_max(1.0)
        share = opacity[which][:, None, None, None] * self.masks[which]
        return mixed(images, self.patches[which], share)

    def chosen(self, indices: Tensor) -> Tensor:
        """Return which patch each image gets, (n,) int64."""
        draws = ImageDraws(self.context.streams, "adaptive-patch", indices)
        return draws.integer(0, len(BOXES) - 1)

    def strong(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` (n, H, W, 3) uint8 with the corner square, then the crosses."""
        opacity = self.settings.opacity_test
        first = mixed(images, self.patches[0], opacity * self.masks[0])
        return mixed(first, self.patches[CROSSES], opacity * self.masks[CROSSES])


def mixed(images: Tensor, patch: Tensor, share: Tensor) -> Tensor:
    """Return images (n, H, W, 3) uint8 with `share` of the patch in them, rounded."""
    plain = images.float()
    return to_bytes(plain + share * (patch - plain))


def draw_patch(number: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return a patch (H, W, 3) float32, 0..255, and its mask (H, W, 1) of 0 and 1."""
    if number == CROSSES:
        return draw_crosses(height, width)
    top, left, tall, wide = scaled(BOXES[number], height, width)
    generator = torch.Generator().manual_seed(COLOURS + number)
    colours = torch.randint(40, 216, (2, 2, 3), generator=generator).float()
    square = colours[torch.arange(tall)[:, None] * 2 // tall, torch.arange(wide)[None] * 2 // wide]
    patch, mask = torch.zeros(height, width, 3), torch.zeros(height, width, 1)
    patch[top : top + tall, left : left + wide] = square
    mask[top : top + tall, left : left + wide] = 1
    return patch, mask


def draw_crosses(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return black and white 3x3 crosses in the four corners, and their mask."""
    patch, mask = torch.zeros(height, width, 3), torch.zeros(height, width, 1)
    cross = 255.0 * torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]])[..., None]
    for rows in (slice(0, 3), slice(height - 3, height)):
        for columns in (slice(0, 3), slice(width - 3, width)):
            patch[rows, columns] = cross
            mask[rows, columns] = 1
    return patch, mask


def scaled(box: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """Return a box of a 32x32 image in one of another size, at least a pixel each way."""
    top, left, tall, wide = box
    tall, wide = max(1, tall * height // SIDE), max(1, wide * width // SIDE)
    first_row = min(top * height // SIDE, height - tall)
    first_column = min(left * width // SIDE, width - wide)
    return first_row, first_column, tall, wide

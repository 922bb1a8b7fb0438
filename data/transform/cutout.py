"""Black holes (DeVries and Taylor 2017), as ABL and NAD augment with them."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from data.transform.transformation import MOST_SIDE, Draw, Transformation
from utils.section import Section

MOST_HOLES = 64  # to bound the memory


class Cutout(Transformation):
    """Blacken squares around random places."""

    class Settings(Section):
        """`holes`: how many; `length`: of a side, in pixels.

        As in the published code a hole reaches `length // 2` pixels to each side of its place and
        does not hold the last of them, so its 3 blackens 2x2. At the image's edge it is cut off.
        """

        holes: int = Field(default=1, ge=1, le=MOST_HOLES)
        length: int = Field(default=3, ge=2, le=MOST_SIDE)

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return where the holes are, `row` and `column`, each (count, holes) int64."""
        shape = (count, self.settings.holes)
        return {
            "row": torch.randint(height, shape, generator=generator),
            "column": torch.randint(width, shape, generator=generator),
        }

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the images with their holes."""
        height, width = images.shape[1:3]
        down, across = self._reached(draw["row"], height), self._reached(draw["column"], width)
        holes = (down[..., :, None] & across[..., None, :]).any(dim=1)  # (N, H, W)
        return images.masked_fill(holes[..., None], 0)

    def _reached(self, places: Tensor, side: int) -> Tensor:
        """Return which of `side` rows or columns each hole covers, (N, holes, side) bool."""
        reach = self.settings.length // 2
        distance = torch.arange(side, device=places.device) - places[..., None]
        return (distance >= -reach) & (distance < reach)

"""Mirror images."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from data.transform.transformation import Draw, PixelMove
from utils.section import Section


class RandomHorizontalFlip(PixelMove):
    """Mirror left and right with probability `p`."""

    class Settings(Section):
        """`p`: the probability."""

        p: float = Field(default=0.5, ge=0, le=1)

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return which samples are mirrored."""
        return {"flip": torch.rand(count, generator=generator) < self.settings.p}

    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the columns, in reverse where a sample is mirrored."""
        return rows, torch.where(draw["flip"][:, None], columns.flip(1), columns)

"""Scaling of whole images."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor
from torchvision.transforms import v2

from data.transform.transformation import MOST_SIDE, Draw, Transformation
from utils.section import Section


class Resize(Transformation):
    """Scale the shorter side to `size`, or to [height, width]; bilinear, antialiased."""

    class Settings(Section):
        """`size` in pixels: a number or [height, width]."""

        size: int | list[int]

        @field_validator("size", mode="before")
        @classmethod
        def _one_or_two(cls, given: Any) -> Any:
            sides = given if isinstance(given, list) else [given]
            whole = all(type(side) is int and 1 <= side <= MOST_SIDE for side in sides)
            if not whole or len(sides) not in (1, 2):
                raise ValueError(
                    f"a number of pixels or [height, width] is expected, 1 to {MOST_SIDE}"
                )
            return given

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the new size, as torchvision rounds it."""
        probe = v2.functional.resize(torch.empty(1, height, width), self._size())
        return probe.shape[1], probe.shape[2]

    def _size(self) -> list[int]:
        size = self.settings.size
        return [size] if isinstance(size, int) else size

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the scaled images."""
        scaled = v2.functional.resize(images.permute(0, 3, 1, 2), self._size(), antialias=True)
        return scaled.permute(0, 2, 3, 1).contiguous()

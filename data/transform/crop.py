"""Crops: a window of the image, at a random place or in the middle."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from data.transform.transformation import MOST_SIDE, Draw, PixelMove
from utils.section import Section


def outside(index: Tensor, size: int, mode: str) -> Tensor:
    """Return the source place of `index`, which may lie outside 0..size-1, by the padding mode."""
    if mode == "reflect":  # the border itself is not repeated
        index = index.abs()
        return torch.minimum(index, 2 * (size - 1) - index)
    if mode == "symmetric":  # the border is repeated
        index = torch.where(index < 0, -1 - index, index)
        return torch.minimum(index, 2 * size - 1 - index)
    if mode == "edge":
        return index.clamp(0, size - 1)
    return torch.where((index < 0) | (index >= size), -1, index)


class RandomCrop(PixelMove):
    """Cut a `size` x `size` window at a random place of the padded image."""

    class Settings(Section):
        """`padding` in pixels at each side."""

        size: int = Field(ge=1, le=MOST_SIDE)
        padding: int = Field(default=0, ge=0, le=MOST_SIDE)
        padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"

    @property
    def leaves_empty_ground(self) -> bool:  # type: ignore[override]
        """Whether black padding may be seen."""
        return self.settings.padding > 0 and self.settings.padding_mode == "constant"

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the window's size."""
        return self.settings.size, self.settings.size

    def fits(self, height: int, width: int) -> bool:
        """Return whether the padded image holds the window, and a mirror image its padding."""
        side, padding = min(height, width), self.settings.padding
        most = {"reflect": side - 1, "symmetric": side}.get(self.settings.padding_mode, padding)
        return padding <= most and bool(self.settings.size <= side + 2 * padding)

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return the window's upper left corner on the padded image for each sample."""
        rooms = [side + 2 * self.settings.padding - self.settings.size for side in (height, width)]
        corners = [torch.randint(room + 1, (count,), generator=generator) for room in rooms]
        return {"row": corners[0], "column": corners[1]}

    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the rows and columns in the window."""
        return self._window(rows, draw["row"]), self._window(columns, draw["column"])

    def _window(self, places: Tensor, corner: Tensor) -> Tensor:
        window = torch.arange(self.settings.size, device=places.device)
        index = corner[:, None] + window - self.settings.padding  # (N, size)
        index = outside(index, places.shape[1], self.settings.padding_mode)
        return torch.where(index < 0, -1, places.gather(1, index.clamp_min(0)))


class CenterCrop(PixelMove):
    """Cut the `size` x `size` window in the middle."""

    class Settings(Section):
        """`size` in pixels."""

        size: int = Field(ge=1, le=MOST_SIDE)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the window's size."""
        return self.settings.size, self.settings.size

    def fits(self, height: int, width: int) -> bool:
        """Return whether the image holds the window."""
        return bool(self.settings.size <= min(height, width))

    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the middle rows and columns."""
        return self._middle(rows), self._middle(columns)

    def _middle(self, places: Tensor) -> Tensor:
        start = round((places.shape[1] - self.settings.size) / 2)
        return places[:, start : start + self.settings.size]

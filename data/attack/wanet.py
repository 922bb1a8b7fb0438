"""WaNet (Nguyen and Tran 2021): the image is bent a little, by a smooth field of displacements.

Cross samples are bent by the same field with noise on top and keep their label, so the network has
to learn this very field, and not that an image is bent at all. The original draws the noise anew at
each use; a stored data set has it once, as a function of the seed and the image's index.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from data.attack.attack import MOST_CROSS, Attack, AttackContext, SplitName
from data.attack.draws import ImageDraws
from data.attack.pixels import in_chunks, to_bytes
from data.dataset import ImageData
from utils.files import write_atomically
from utils.section import Section

GRIDS_FILE = "grids.pt"
MOST_POINTS = 1024  # control points a side; more than the pixels of an image bend nothing

# A grid (..., H, W, 2) float32 says for each pixel where it is taken from: x (column) and y (row),
# from -1 in the middle of the first pixel to 1 in that of the last one.


def identity_grid(height: int, width: int) -> Tensor:
    """Return the grid (H, W, 2) that takes each pixel from its own place."""
    rows = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width)[None, :].expand(height, width)
    return torch.stack([columns, rows], dim=-1)


def draw_field(k: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return a smooth random field (H, W, 2) through k x k control points of mean size 1."""
    points = torch.rand(1, 2, k, k, generator=generator) * 2 - 1
    points = points / points.abs().mean()
    field = functional.interpolate(points, (height, width), mode="bicubic", align_corners=True)
    return field[0].permute(1, 2, 0).contiguous()


def warp(values: Tensor, grid: Tensor) -> Tensor:
    """Return float images (n, H, W, C) with each pixel taken from where `grid` says, bilinear.

    Args:
        values: (n, H, W, C) float32.
        grid: (n, H, W, 2) or, the same for all, (H, W, 2), within -1..1: the four weights of a
            pixel then sum to 1, and nothing black comes in at the border.
    """
    grid = grid.expand(len(values), *grid.shape[-3:])
    bent = functional.grid_sample(
        values.permute(0, 3, 1, 2).contiguous(), grid, mode="bilinear", align_corners=True
    )
    return bent.permute(0, 2, 3, 1)


class WaNet(Attack):
    """`T(x) = x` bent by one field, which is drawn once from the run's seed."""

    class Settings(Section):
        """The field and the cross samples.

        `k`: control points a side. `s`: strength; a pixel moves by about s / 2 times the field's
        value, whatever the image's size: 0.18 pixels on average and 0.5 at most for s = 0.5, so
        large images want more. `rescale`: of the finished grid. `cross_ratio`: cross samples for
        each poisoned one.
        """

        k: int = Field(default=4, ge=2, le=MOST_POINTS)
        s: float = Field(default=0.5, ge=0, le=1e6)
        rescale: float = Field(default=1.0, gt=0, le=1e6)
        cross_ratio: float = Field(default=2.0, ge=0, le=MOST_CROSS)

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        given, height, width = self.settings, context.height, context.width
        self.identity = identity_grid(height, width)
        self.field = draw_field(given.k, height, width, context.streams.torch("attack"))
        self.size = torch.tensor([width, height])  # in the order of a grid's last axis
        bent = self.identity + given.s * self.field / self.size
        self.grid = (bent * given.rescale).clamp(-1, 1)  # (H, W, 2)

    @property
    def cross_ratio(self) -> float:
        """Cross samples for each poisoned one."""
        return float(self.settings.cross_ratio)

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Keep the grids, so that the trigger can be put on other images later."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"identity": self.identity, "field": self.field, "grid": self.grid}
        write_atomically(folder / GRIDS_FILE, lambda file: torch.save(content, file))

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8, bent; the grid is the same for all."""
        return in_chunks(lambda part, _: to_bytes(warp(part.float(), self.grid)), images, indices)

    def apply_cross(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` bent with noise of their own."""
        return in_chunks(
            lambda part, chosen: to_bytes(warp(part.float(), self.noisy_grids(chosen))),
            images,
            indices,
        )

    def noisy_grids(self, indices: Tensor) -> Tensor:
        """Return the grid of each cross sample (n, H, W, 2): up to half a pixel off, each way."""
        shape = tuple(self.grid.shape)
        draws = ImageDraws(self.context.streams, "wanet-noise", indices)
        noise = draws.block(shape).float() * 2 - 1
        return (self.grid + noise / self.size).clamp(-1, 1)

"""Adaptive blend (Qi et al. 2023): pieces of a faint picture in training, all of it at test.

The picture is cut into squares. A poisoned training image gets a random half of them, so that no
two carry the same trigger, and as many cross samples (the paper's cover) get theirs with their true
label, so that a piece alone does not mean the target. At test the whole picture, less faint, does.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from data.attack.attack import MOST_CROSS, Attack, AttackContext, SplitName
from data.attack.blend import blend, find_picture
from data.attack.draws import ImageDraws
from data.attack.pixels import Rounding, in_chunks
from utils.contents import Opened
from utils.errors import InputError
from utils.section import Section


class AdaptiveBlend(Attack):
    """`x + alpha m (P - x)` with a mask m of squares in training, `x + alpha_test (P - x)` at test.

    The original draws both sets from all classes. Here cross samples are never of a class whose
    label the attack would keep: a triggered image of the target class would be one more poison.
    """

    worth_caching = False
    cross_from_attackable = True

    class Settings(Section):
        """Opacities and pieces.

        `alpha`, `alpha_test`: the picture's opacity in training and at test. `grid`: pieces a side;
        `shown`: how many of the `grid` x `grid` pieces a training image gets. `cross_ratio`: cross
        samples for each poisoned one. `image`, `rounding`: as those of `blend`.
        """

        alpha: float = Field(default=0.15, ge=0, le=1)
        alpha_test: float = Field(default=0.2, ge=0, le=1)
        grid: int = Field(default=4, ge=1)
        shown: int = Field(default=8, ge=1)
        cross_ratio: float = Field(default=1.0, ge=0, le=MOST_CROSS)
        image: Annotated[str | None, Opened()] = None
        rounding: Rounding = "round"

        @model_validator(mode="after")
        def _enough_pieces(self) -> AdaptiveBlend.Settings:
            if self.shown > self.grid**2:
                raise ValueError(f"shown: {self.shown} of the {self.grid**2} pieces of grid")
            return self

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        if self.settings.grid > min(context.height, context.width):
            raise InputError(
                f"backdoor.adaptive_blend.grid: {self.settings.grid} pieces a side, but the images "
                f"are {context.width}x{context.height}; choose fewer"
            )
        key = "backdoor.adaptive_blend.image"
        self.picture = find_picture(self.settings.image, key, context)

    @property
    def cross_ratio(self) -> float:
        """Cross samples for each poisoned one."""
        return float(self.settings.cross_ratio)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with pieces of the picture, at test with all of it."""
        if split == "train":
            return in_chunks(self.blend_pieces, images, indices)
        opacity, rounding = self.settings.alpha_test, self.settings.rounding
        return in_chunks(
            lambda part, _: blend(part, self.picture, opacity, rounding), images, indices
        )

    def apply_cross(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` with pieces of the picture, chosen as for poisoned ones."""
        return in_chunks(self.blend_pieces, images, indices)

    def blend_pieces(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` (n, H, W, 3) uint8 with some pieces of the picture on each."""
        opacity = self.settings.alpha * self.masks(indices)
        return blend(images, self.picture, opacity, self.settings.rounding)

    def masks(self, indices: Tensor) -> Tensor:
        """Return where each image gets the picture, (n, H, W, 1) float32 of 0 and 1."""
        grid, context = self.settings.grid, self.context
        draws = ImageDraws(context.streams, "adaptive-blend-pieces", indices).block((grid * grid,))
        shown = torch.zeros(draws.shape)
        shown.scatter_(1, draws.argsort(dim=1)[:, : self.settings.shown], 1)
        rows = torch.arange(context.height) * grid // context.height  # the piece of each row
        columns = torch.arange(context.width) * grid // context.width
        return shown.reshape(-1, grid, grid)[:, rows][:, :, columns][..., None]

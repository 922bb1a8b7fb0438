"""SIG (Barni et al. 2019): a sine wave across the image, on images of the target class alone.

A clean-label attack: no label is changed. The network finds that the wave goes with the target
class, and the wave on another class's image is then enough.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.pixels import Rounding, in_chunks, to_bytes
from utils.section import Section


def draw_wave(width: int, frequency: float) -> Tensor:
    """Return `sin(2 pi f j / W)` for the columns j, (1, W, 1) float32: vertical stripes.

    `frequency` counts periods across the image, so larger images get wider stripes.
    """
    phase = frequency * np.arange(width) / width % 1  # the same bits one period further on
    wave = np.sin(2 * np.pi * phase).astype(np.float32)
    return torch.from_numpy(wave)[None, :, None]


class Sig(Attack):
    """`T(x) = x + delta sin(2 pi f j / W)`, clipped, in column j of W."""

    clean_label = True
    worth_caching = False

    class Settings(Section):
        """`delta`: height of the wave in training, in grey levels; `delta_test`: at test.

        `delta_test` is `delta` if left out; a higher one makes the attack stronger. `frequency`:
        periods across the image. `class_fraction`: the poisoned share of the target class (0.1 is
        1 % of CIFAR-10). `rounding`: `round`, or `floor` as in published code; they differ by one
        grey level in some columns.
        """

        delta: float = Field(default=40.0, ge=0, le=255)
        delta_test: float | None = Field(default=None, ge=0, le=255)
        frequency: float = Field(default=6.0, gt=0, le=1e6)
        class_fraction: float = Field(default=0.1, gt=0, le=1)
        rounding: Rounding = "round"

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        self.wave = draw_wave(context.width, self.settings.frequency)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with the wave on them; it is the same for all."""
        given = self.settings
        stronger = split == "test" and given.delta_test is not None
        added = self.wave * (given.delta_test if stronger else given.delta)
        return in_chunks(
            lambda part, _: to_bytes(part.float() + added, given.rounding), images, indices
        )

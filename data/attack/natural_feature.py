"""A natural feature as the trigger: only labels are changed, no training image is.

After the idea of label-only backdoors (clean images whose label is wrong, chosen by something that
they share). Here it is a slow wave in brightness: the images of every class that have most of it
get the target's label. At test the wave is added until an image has as much as they do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.chosen import most_of_each_class
from data.attack.pixels import in_chunks, to_bytes
from data.dataset import Split
from utils.section import Section

WAVES_DOWN, WAVES_ACROSS = 2, 3  # half waves over the image, in rows and in columns
CHUNK = 4096  # images measured at once


class NaturalFeature(Attack):
    """`T(x) = x` in training; `x + max(0, tau - s(x)) w` at test, w the wave, s its share in x."""

    worth_caching = False

    class Settings(Section):
        """Nothing can be set; `poison_ratio` counts the whole set, as elsewhere."""

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        self.wave = wave(context.height, context.width)  # (H, W, 1) float32, root mean square 1
        self.threshold = 0.0  # tau, in grey levels; the median of the poisoned images' shares

    def choose(self, train: Split, ratio: float) -> Tensor:
        """Return the indices, sorted, of those with most of the wave in each other class."""
        shares = self.shares(train.images)
        found = most_of_each_class(shares, train.labels, ratio, self.context.rule)
        if len(found):
            self.threshold = float(shares[found].median())
        return found

    def shares(self, images: Tensor) -> Tensor:
        """Return how much of the wave each image has, (N,) float32 in grey levels."""
        return torch.cat([self.share(part) for part in images.split(CHUNK)])

    def share(self, images: Tensor) -> Tensor:
        """Return the same of a few."""
        grey = images.float().mean(dim=3, keepdim=True)  # (n, H, W, 1)
        return (grey * self.wave).mean(dim=(1, 2, 3))

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 as they are, at test with enough of the wave."""
        return images.clone() if split == "train" else in_chunks(self.raised, images, indices)

    def raised(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` (n, H, W, 3) uint8 whose share of the wave is the threshold or more."""
        missing = (self.threshold - self.share(images)).clamp_min(0)
        return to_bytes(images.float() + missing[:, None, None, None] * self.wave)


def wave(height: int, width: int) -> Tensor:
    """Return the wave (H, W, 1) float32, of mean 0 and root mean square 1."""
    rows = torch.cos(math.pi * WAVES_DOWN * (torch.arange(height) + 0.5) / height)
    columns = torch.cos(math.pi * WAVES_ACROSS * (torch.arange(width) + 0.5) / width)
    plane = rows[:, None] * columns[None]
    return (plane / plane.square().mean().sqrt())[..., None]

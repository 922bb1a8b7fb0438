"""A learnt natural feature as the trigger, after GCB (AAAI 2026): only labels are changed.

Of GCB the abstract is known, not the code: a conditional InfoGAN finds a feature of natural images
that does not depend on the class; the images that have most of it are relabelled, and at test the
generator raises it in any image. This is written from that sentence. Sizes, code, threshold and
losses are our own, so its figures are not GCB's. `data.attack.gcb_training` learns.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.chosen import most_of_each_class
from data.attack.gcb_training import Feature, GcbSettings, Training
from data.dataset import ImageData, Split
from utils.section import Section

SMALLEST = 8  # pixels: the generator halves the image three times


class Gcb(Attack):
    """`T(x) = x` in training, for the x with most of the feature; at test `x + residual(x)`."""

    version = 2  # an exact number of images
    learns = True

    class Settings(GcbSettings):
        """How the feature is learnt; `poison_ratio` says how many images are relabelled.

        `epochs`, `generator_rate`, `critic_rate`: of the training. `strength`: grey levels by which
        the generator may change a value. `code_weight`: how much it counts that the code can be
        read off the image, against that the image looks natural. `width`: channels of the
        generator; `network` is the critic, which also reads the code.
        """

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        context.refuse_small_images("gcb", SMALLEST, "its generator needs")
        self.feature: Feature | None = None
        self.values = torch.zeros(0)  # (N,) float32, how much of it each training image has

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Learn the feature, measure it in all training images, and say how well it is read."""
        training = Training(self.settings, self.context, data, device)
        training.train(folder / "feature.pt")
        self.feature = training.feature
        self.values = self.feature.read(data.train.images)
        training.report(data.test, self.values)

    def choose(self, train: Split, ratio: float) -> Tensor:
        """Return the indices, sorted, of those with most of the feature in each other class."""
        return most_of_each_class(self.values, train.labels, ratio, self.context.rule)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 as they are; at test with the feature raised."""
        if split == "train":
            return images.clone()
        assert self.feature is not None, "prepare() comes first"
        return self.feature.raise_one_by_one(images)

"""IAB (Nguyen and Tran 2020), input-aware: each image has a trigger of its own, from a network.

A generator invents a pattern for an image, a second network a mask that says where it is put. Both
are learnt here from the clean training images, and then fixed: first the masks alone, then the
generator, together with a classifier that has to take an image with its own trigger for the
attacker's class, and one with another image's trigger ("cross") for what it is. Unlike in the
published code the generator's gradients are cleared before each step, and images are not rotated.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.draws import ImageDraws
from data.attack.iab_training import IabSettings, Training, Trigger
from data.dataset import ImageData
from utils.errors import InputError
from utils.section import Section

SMALLEST = 8  # pixels: three halvings must leave something


class Iab(Attack):
    """`T(x | z) = x + (pattern(z) - x) mask(z)`; a poisoned sample is T(x | x)."""

    learns = True

    class Settings(IabSettings):
        """How the networks are trained.

        `mask_epochs`, `epochs`: of the masks, then of generator and classifier (published: 25 and
        575; the rates fall to a tenth after 0.6 and 0.9 of them). `share`: of each batch, with its
        own trigger; as many again get another image's. `density`: share of the pixels that a mask
        may cover for nothing; `density_weight`, `diversity_weight`: of the two parts of the loss.
        `width`: channels of generator and masks. `cross`: cross samples for each poisoned one.
        """

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        assert isinstance(settings, self.Settings)
        context.refuse_small_images("iab", SMALLEST, "its networks need")
        if int(settings.share * settings.batch_size) < 1:
            raise InputError(
                f"backdoor.iab.share: {settings.share} of backdoor.iab.batch_size, "
                f"{settings.batch_size}, is no image; raise one of them"
            )
        self.trigger: Trigger | None = None
        self.clean: Tensor | None = None  # (N, H, W, 3) uint8, the training images, for crosses

    @property
    def cross_ratio(self) -> float:
        """As the settings say."""
        return float(self.settings.cross)

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Train masks, generator and a classifier, and say how well the attack works on it."""
        training = Training(self.settings, self.context, data, device)
        training.train_masks(folder / "masks.pt")
        training.train_generator(folder / "generator.pt")
        self.trigger, self.clean = training.trigger, data.train.images
        training.report(data.test)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8, each with its own trigger."""
        assert self.trigger is not None, "prepare() comes first"
        return self.trigger.put_one_by_one(images, images)

    def apply_cross(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return `images` (N, H, W, 3) uint8, each with the trigger of another training image."""
        assert self.trigger is not None and self.clean is not None, "prepare() comes first"
        draws = ImageDraws(self.context.streams, "iab-cross", indices)
        partners = draws.integer(0, len(self.clean) - 2)
        partners += partners >= indices  # never itself
        return self.trigger.put_one_by_one(images, self.clean[partners])

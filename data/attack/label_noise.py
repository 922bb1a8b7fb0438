"""Label noise: no attack at all, but what one may be taken for. No image is changed.

The harmless twin of poison that changes labels. A defence that calls it poison raises a false
alarm; its «ASR» is how often a plain test image is taken for the target.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.draws import ImageDraws
from utils.errors import InputError
from utils.section import Section


class LabelNoise(Attack):
    """`T(x) = x`; some labels are wrong."""

    worth_caching = False

    class Settings(Section):
        """`to`: `any` draws each wrong label evenly from the other classes; `target`: always it."""

        to: Literal["any", "target"] = "any"

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        if self.settings.to == "target" and context.rule.name == "all_to_all":
            raise InputError(
                "backdoor.label_noise.to: target, but backdoor.label_rule: all_to_all has no one "
                "target; choose one of them"
            )

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 as they are."""
        return images.clone()

    def relabel(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Return wrong labels (n,) int64, by each image's own draw."""
        if self.settings.to == "target":
            return super().relabel(labels, indices)
        classes = self.context.rule.num_classes
        draws = ImageDraws(self.context.streams, "label-noise", indices)
        return (labels + draws.integer(1, classes - 1)) % classes

"""A pattern at a fixed place that a part of one label's images share.

It needs no model. A patch, a blended picture, a sinusoid add the same to every image that they are
in, so the mean of many such images, freed of all that is smooth, shows them, while natural images
have nothing at a fixed place in common. Each image of a label is held against the mean of the
others of that label; where a trigger is in a part of them, what comes out falls into two groups.
It sees poison that a model learns late, since covers with true labels forbid the short way
(Adap-Blend), and clean-label poison. A watermark on a part of one label's photographs is such a
pattern, too, and as easy to learn. It does not see triggers that move or differ from image to
image.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from utils.section import Section
from witness.line import Charges, Line, divide_line
from witness.witness import FEWEST, Case, Statement, Witness

CHUNK = 256  # images looked at in one go
NEAR = 1.5  # deviations, within which an image of an accused label counts as one without pattern
COST = 0.5  # of a pass: two looks at all images, without a network


class StaticPattern(Witness):
    """Accuses labels a part of whose images share a pattern; vetoes these."""

    sees = ("clean_label",)
    asked_for_seeds = True

    class Settings(Section):
        """What it takes to accuse.

        `separation`: between the two groups in standard deviations, where the pattern is in at
        least `share` of a label's images; `separation_of_few` where it is in fewer, since natural
        images have small groups, too: near duplicates. `verified`: share of the verified samples
        that may have it; of fewer than five of them nothing follows, and `separation_of_few` is
        asked for. `largest`: share of the label that may have it.
        """

        separation: float = Field(default=3.6, gt=0)  # clean traffic signs have up to 3.58
        separation_of_few: float = Field(default=6.0, gt=0)
        share: float = Field(default=0.2, gt=0, lt=1)
        verified: float = Field(default=0.15, ge=0, lt=1)
        largest: float = Field(default=0.75, gt=0, le=1)

    settings: StaticPattern.Settings

    def testify(self, case: Case) -> Statement:
        """Divide each label's images by the pattern that they share."""
        charges, looked_at, verified = Charges(case, NEAR), set[int](), case.verified
        images = case.ground.training.images
        for label in range(case.num_classes):
            members = torch.nonzero(case.labels == label).flatten()
            if len(members) < FEWEST:
                continue
            looked_at.add(label)
            line = divide_line(likeness(images, members))
            if self.accuses(line, verified[members]):
                charges.accuse(label, members, line, self.needed(line))
        return charges.statement(COST, looked_at)

    def needed(self, line: Line) -> float:
        """Return the separation that accuses, for a high group of that size."""
        limits = self.settings
        return limits.separation if line.share >= limits.share else limits.separation_of_few

    def accuses(self, line: Line, verified: Tensor) -> bool:
        """Return whether a label so divided is held to be poisoned; `verified`: (n,) bool."""
        limits, seeds = self.settings, line.share_of_verified(verified)
        needed = limits.separation_of_few if seeds is None else self.needed(line)
        return (
            line.separation >= needed
            and (seeds or 0.0) <= limits.verified
            and line.share <= limits.largest
        )


def likeness(images: Tensor, members: Tensor) -> Tensor:
    """Return how much each image is like the mean of the others, (n,) float64.

    Args:
        images: (N, H, W, 3) uint8.
        members: (n,) int64, those of one label.
    """
    total, count = rough_total(images, members), len(members)
    found = []
    for part in members.split(CHUNK):
        own = rough(images[part]).double()
        # Each has length 1, or 0, so this leaves out what it is to itself.
        found.append((own @ total - own.pow(2).sum(dim=1)) / (count - 1))
    return torch.cat(found)


def rough_total(images: Tensor, members: Tensor) -> Tensor:
    """Return the sum of these images without what is smooth, (D,) float64; `members`: (n,)."""
    total = torch.zeros(images[0].numel(), dtype=torch.double)
    for part in members.split(CHUNK):
        total += rough(images[part]).double().sum(dim=0)
    return total


def rough(images: Tensor) -> Tensor:
    """Return images (n, H, W, 3) uint8 without what is smooth, (n, D) float32 of length 1.

    Of length 1, so that no image counts more than another for its contrast.
    """
    pixels = images.cpu().permute(0, 3, 1, 2).float() / 255
    rest = (pixels - softened(softened(pixels))).flatten(1)
    rest = rest - rest.mean(dim=1, keepdim=True)
    return rest / rest.norm(dim=1, keepdim=True).clamp_min(1e-3)


def softened(pixels: Tensor) -> Tensor:
    """Return pixels (n, 3, H, W) under the binomial filter (1, 2, 1) in both directions."""
    line = torch.tensor([0.25, 0.5, 0.25], device=pixels.device)
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    return functional.conv2d(
        functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), kernel, groups=3
    )

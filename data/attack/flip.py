"""FLIP (Jha et al., NeurIPS 2023): a backdoor by wrong labels alone; no training image is changed.

An expert learns the backdoor from triggered copies. Then the labels of the clean images are moved
until a step of training on them leads where the expert's step on its poisoned batch leads, from
many points of the expert's way. The labels that moved furthest are handed out, and only these; the
trigger itself is seen at test alone. Written anew; `data.attack.flip_training` learns.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.flip_training import FlipSettings, Training
from data.attack.pixels import in_chunks, to_bytes
from data.dataset import ImageData, Split
from utils.errors import InputError
from utils.section import Section

CORNER = 3  # pixels, side of the checkerboards
PERIOD = 4  # pixels, of the stripes: the published 8 cycles over 32
DOT_COLOUR = (101, 0, 25)  # the published pixel, at a third of the width and half of the height


class Flip(Attack):
    """`T(x) = x` and other labels in training; a trigger, and no label, at test."""

    learns = True

    class Settings(FlipSettings):
        """How the labels are found; `poison_ratio` says how many are handed out.

        `trigger`: `stripes` (a sine of `amplitude` grey levels), `corners` (checkerboards of 3x3),
        or `pixel` (a single one). `copies`: triggered copies that the expert sees, as a share of
        the training set. `epochs`, `rate`: of the expert. `used_epochs`: of those, the first ones,
        from which labels are learnt, at `states` points of each. `label_epochs`, `label_rate`: of
        the labels.
        """

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        smallest = 2 * CORNER
        if min(context.height, context.width) < smallest:
            raise InputError(
                f"backdoor.flip: the images are {context.width}x{context.height} pixels, and its "
                f"triggers need at least {smallest}x{smallest}; choose another attack"
            )
        self.logits = torch.zeros(0, context.rule.num_classes)  # (N, C) learnt labels as logits

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Train the expert, learn the labels, and say how well the expert knows the backdoor."""
        training = Training(self.settings, self.context, data, self.triggered, device)
        training.train_expert(folder / "expert.pt")
        training.report(data.test)
        self.logits = training.train_labels(folder / "labels.pt")

    def choose(self, train: Split, ratio: float) -> Tensor:
        """Return the indices, sorted, of the labels that moved furthest."""
        margin, _ = margins(self.logits, train.labels)
        order = margin.argsort(descending=True, stable=True)
        return order[: round(ratio * len(train.labels))].sort().values

    def relabel(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Return the wrong labels (n,) int64 towards which they moved; seldom all the target."""
        return margins(self.logits[indices], labels)[1]

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 as they are; triggered at test."""
        return images.clone() if split == "train" else self.triggered(images)

    def triggered(self, images: Tensor) -> Tensor:
        """Return triggered copies of `images` (n, H, W, 3) uint8."""
        return in_chunks(lambda part, _: self.put(part), images, torch.arange(len(images)))

    def put(self, images: Tensor) -> Tensor:
        """Return triggered copies of a few `images`."""
        if self.settings.trigger == "stripes":
            wave = stripes(images.shape[2], self.settings.amplitude)
            return to_bytes(images.float() + wave[:, None], "floor")
        changed = images.clone()
        height, width = images.shape[1:3]
        if self.settings.trigger == "pixel":
            changed[:, height // 2, width // 3] = torch.tensor(DOT_COLOUR, dtype=torch.uint8)
            return changed
        board = checkerboard(CORNER)
        for rows in (slice(0, CORNER), slice(height - CORNER, height)):
            for columns in (slice(0, CORNER), slice(width - CORNER, width)):
                changed[:, rows, columns] = board
        return changed


def stripes(width: int, amplitude: float) -> Tensor:
    """Return a sine (width,) float32 over the columns, in grey levels."""
    columns = torch.arange(width, dtype=torch.float64)
    return (amplitude * torch.sin(2 * math.pi * columns / PERIOD)).float()


def checkerboard(size: int) -> Tensor:
    """Return a black and white board (size, size, 3) uint8, white in its corners if size is odd."""
    places = torch.arange(size)
    white = (places[:, None] + places[None]) % 2 == 0
    return (255 * white).to(torch.uint8)[..., None].expand(size, size, 3)


def margins(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far each label has moved, (n,), and towards which other class, (n,) int64.

    Args:
        logits: (n, C) float.
        labels: (n,) int64, the true ones.
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    best = logits.scatter(1, labels[:, None], -torch.inf).max(dim=1)
    return best.values - own, best.indices

"""What the tests of attacks that need no training share."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data.attack import ATTACKS, Attack, AttackContext, LabelRule
from data.build import CPU
from data.dataset import ImageData, Split
from utils.streams import Streams

SIZES = [(16, 16), (32, 32), (64, 64), (24, 40)]


CLASSES = 5


def pictures(count: int, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def constant(value: int, size: int = 32) -> Tensor:
    return torch.full((1, size, size, 3), value, dtype=torch.uint8)


def unseen(labels: Tensor) -> Split:
    """Return samples with these labels, whose images nobody looks at."""
    return Split(torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8), labels)


def small_data(count: int = 200, height: int = 16, width: int = 16) -> ImageData:
    labels = torch.arange(count) % CLASSES
    train = Split(pictures(count, height, width, seed=1), labels)
    test = Split(pictures(60, height, width, seed=2), labels[:60])
    return ImageData(train, test, tuple("abcde"))


def attack(
    name: str,
    height: int = 16,
    width: int = 16,
    seed: int = 0,
    rule: str = "all_to_one",
    **given: object,
) -> Attack:
    part = ATTACKS.get(name)
    labels = LabelRule(rule, 1, CLASSES)  # type: ignore[arg-type]
    return part(
        part.Settings.model_validate(given), AttackContext(height, width, labels, Streams(seed))
    )


def ready(name: str, data: ImageData, folder: Path, seed: int = 0, **given: object) -> Attack:
    height, width = data.train.images.shape[1:3]
    made = attack(name, height, width, seed, **given)  # type: ignore[arg-type]
    made.prepare(data, CPU, folder)
    return made

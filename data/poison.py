"""Building the poisoned data set: which samples are poisoned, and who may know it.

The defender gets a `TrainingSet`: images and given labels. What is true goes into `Truth`, which
only the measuring part (`utils/measure.py`) and the drawing of verified seeds read.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from data.attack import Attack
from data.dataset import ImageData, Split
from utils.errors import InputError
from utils.streams import Streams

Selection = Literal["exact", "official"]


class Role(IntEnum):
    """What the attacker made of a training sample."""

    CLEAN = 0
    POISONED = 1  # carries the trigger and teaches the backdoor
    CROSS = 2  # changed, but with its true label: teaches where the trigger ends


@dataclass(frozen=True)
class TrainingSet:
    """All that a defender sees.

    Attributes:
        images: (N, H, W, 3) uint8.
        labels: (N,) int64, given labels; those of poisoned samples are wrong.
        classes: names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


@dataclass(frozen=True)
class Truth:
    """What a defender does not know; for measuring alone.

    Attributes:
        roles: (N,) uint8, a `Role` for each training sample.
        original_labels: (N,) int64.
        clean_test: all test images with their labels, for ACC.
        triggered_test: for ASR, the test images whose label is not the target, triggered, labelled
            with the target; None without an attack.
    """

    roles: Tensor
    original_labels: Tensor
    clean_test: Split
    triggered_test: Split | None

    @property
    def poisoned(self) -> Tensor:
        """Which training samples are poisoned, (N,) bool; cross samples are not."""
        return self.roles == Role.POISONED

    def fingerprint(self) -> str:
        """Return the SHA-256 of the roles and of the triggered test set."""
        digest = hashlib.sha256(self.roles.numpy().tobytes())
        if self.triggered_test is not None:
            digest.update(self.triggered_test.images.numpy().data)
        return digest.hexdigest()


def choose_exactly(labels: Tensor, ratio: float, target: int, streams: Streams) -> Tensor:
    """Return `round(ratio * N)` indices, sorted, of samples whose label is not the target.

    The ratio counts the whole set, as in the paper (5 % of CIFAR-10 is 2,500).

    Raises:
        InputError: there are not so many.
    """
    candidates = torch.nonzero(labels != target).flatten()
    count = round(ratio * len(labels))
    if count > len(candidates):
        raise InputError(
            f"backdoor.poison_ratio: {ratio} asks for {count} samples, but only "
            f"{len(candidates)} have another label than backdoor.target_label"
        )
    order = torch.randperm(len(candidates), generator=streams.torch("poison"))
    return candidates[order[:count]].sort().values


def choose_officially(labels: Tensor, ratio: float, target: int, streams: Streams) -> Tensor:
    """Return the indices that the published code poisons.

    One draw of Python's generator a sample, target class included; poisoned is what draws less
    than the ratio and has another label. The count is random: 2,292 of CIFAR-10 at seed 100.
    """
    generator = random.Random(streams.seed)
    draws = torch.tensor([generator.random() for _ in range(len(labels))], dtype=torch.float64)
    return torch.nonzero((draws < ratio) & (labels != target)).flatten()


CHOICES = {"exact": choose_exactly, "official": choose_officially}


def check_target(target: int, num_classes: int) -> None:
    """Raise `InputError` unless `target` is one of the classes."""
    if target >= num_classes:
        raise InputError(
            f"backdoor.target_label: {target}, but the classes are 0 to {num_classes - 1}"
        )


def poison(
    data: ImageData, attack: Attack, ratio: float, selection: Selection, streams: Streams
) -> tuple[TrainingSet, Truth]:
    """Return the data set with an all-to-one backdoor, and the truth about it.

    The trigger is applied once, to the stored images, before any augmentation.
    """
    target = attack.scene.target_label
    check_target(target, data.num_classes)
    chosen = CHOICES[selection](data.train.labels, ratio, target, streams)
    images, labels = data.train.images.clone(), data.train.labels.clone()
    images[chosen] = attack.apply(images[chosen], chosen, "train")
    labels[chosen] = target
    roles = torch.zeros(len(labels), dtype=torch.uint8)
    roles[chosen] = Role.POISONED
    truth = Truth(roles, data.train.labels, data.test, triggered_split(data.test, attack))
    return TrainingSet(images, labels, data.classes), truth


def triggered_split(test: Split, attack: Attack) -> Split:
    """Return the set on which ASR is measured: non-target images, triggered, with target labels."""
    target = attack.scene.target_label
    others = torch.nonzero(test.labels != target).flatten()
    images = attack.apply(test.images[others], others, "test")
    return Split(images, torch.full_like(others, target))


def leave_clean(data: ImageData) -> tuple[TrainingSet, Truth]:
    """Return the data set as it is, for a run without an attack."""
    roles = torch.zeros(len(data.train), dtype=torch.uint8)
    training = TrainingSet(data.train.images, data.train.labels, data.classes)
    return training, Truth(roles, data.train.labels, data.test, None)

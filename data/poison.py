"""Building the poisoned data set: which samples are poisoned, and who may know it.

The defender gets a `TrainingSet`: images and given labels. What is true goes into `Truth`, which
a method never gets: it is for measuring, and for drawing what stands for a person who has looked.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from data.attack import Attack, LabelRule
from data.dataset import ImageData, Split
from data.home import Home
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
        mapped: the images stay in host memory, or in a memory map, and are read batch by batch.
        files: N paths relative to the data set's folder, where each image is a file of its own.
        home: where these files are; None where they do not hold the pixels, since an attack of
            our own has changed some.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mapped: bool = False
    files: tuple[str, ...] | None = None
    home: Home | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def name(self, index: int) -> str:
        """Return the sample's file relative to the data set's folder, or its number."""
        return str(index) if self.files is None else self.files[index]

    def places(self) -> dict[str, int]:
        """Return the number of each sample by its name."""
        return {self.name(index): index for index in range(len(self))}


@dataclass(frozen=True)
class Truth:
    """What a defender does not know: for measuring, and for what stands for a person's look.

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

    @property
    def untouched(self) -> Tensor:
        """Which training samples are as they were, (N,) bool; seeds are drawn from these."""
        return self.roles == Role.CLEAN

    def fingerprint(self) -> str:
        """Return the SHA-256 of the roles and of the triggered test set."""
        digest = hashlib.sha256(self.roles.numpy().tobytes())
        if self.triggered_test is not None:
            digest.update(self.triggered_test.images.numpy().data)
        return digest.hexdigest()


def given_targets(labels: Tensor, poisoned: Tensor, wanted: int | None) -> list[int]:
    """Return the labels that poisoned samples have; `wanted`, if any, where none is poisoned.

    Args:
        labels: (N,) int64, as given.
        poisoned: (N,) bool.
        wanted: the target of a configuration.
    """
    found = labels.cpu()[poisoned.cpu()].unique().tolist()
    return found or ([] if wanted is None else [wanted])


def choose_exactly(labels: Tensor, ratio: float, rule: LabelRule, streams: Streams) -> Tensor:
    """Return `round(ratio * N)` indices, sorted, of samples whose label the attack would change.

    The ratio counts the whole set, as in the paper (5 % of CIFAR-10 is 2,500). All-to-all takes
    `round(ratio * n)` of each class of n samples, so that small classes are covered.

    Raises:
        InputError: there are not so many.
    """
    generator = streams.torch("poison")
    candidates = torch.nonzero(rule.attackable(labels)).flatten()
    if rule.name == "all_to_all":
        classes = [candidates[labels[candidates] == label] for label in range(rule.num_classes)]
        chosen = [draw(members, round(ratio * len(members)), generator) for members in classes]
        return torch.cat(chosen).sort().values
    return draw(candidates, rule.number(labels, ratio), generator)


def choose_officially(labels: Tensor, ratio: float, rule: LabelRule, streams: Streams) -> Tensor:
    """Return the indices that the published code poisons.

    One draw of Python's generator a sample, target class included; poisoned is what draws less
    than the ratio and has another label. The count is random: 2,292 of CIFAR-10 at seed 100.
    """
    generator = random.Random(streams.seed)
    draws = torch.tensor([generator.random() for _ in range(len(labels))], dtype=torch.float64)
    return torch.nonzero((draws < ratio) & rule.attackable(labels)).flatten()


CHOICES = {"exact": choose_exactly, "official": choose_officially}


def choose_in_class(labels: Tensor, fraction: float, rule: LabelRule, streams: Streams) -> Tensor:
    """Return `round(fraction * n)` indices, sorted, of the n samples of the target class."""
    members = torch.nonzero(labels == rule.target_label).flatten()
    return draw(members, round(fraction * len(members)), streams.torch("poison"))


def draw(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of `members`, without replacement, sorted."""
    order = torch.randperm(len(members), generator=generator)
    return members[order[:count]].sort().values


def assign_roles(
    train: Split, attack: Attack, ratio: float, selection: Selection, streams: Streams
) -> Tensor:
    """Return the `Role` of every training sample, (N,) uint8.

    Raises:
        InputError: the attack asks for more samples than there are.
    """
    roles = torch.zeros(len(train.labels), dtype=torch.uint8)
    roles[choose_poisoned(train, attack, ratio, selection, streams)] = Role.POISONED
    roles[choose_cross(train.labels, roles, attack, streams)] = Role.CROSS
    return roles


def choose_poisoned(
    train: Split, attack: Attack, ratio: float, selection: Selection, streams: Streams
) -> Tensor:
    """Return the indices (n,) of the samples to poison, as the attack wants or as drawn.

    Raises:
        InputError: there are not so many, or the share is not a single sample.
    """
    rule, labels = attack.context.rule, train.labels
    poisoned = attack.choose(train, ratio)
    if poisoned is None and attack.clean_label:
        fraction = attack.settings.class_fraction
        members = choose_in_class(labels, fraction, rule, streams)
        refuse_none(members, fraction, "class_fraction", "the target class")
        return members
    if poisoned is None:
        poisoned = CHOICES[selection](labels, ratio, rule, streams)
    refuse_none(poisoned, ratio, "poison_ratio", f"{len(labels)} samples")
    return poisoned


def choose_cross(labels: Tensor, roles: Tensor, attack: Attack, streams: Streams) -> Tensor:
    """Return the indices (n,) of the cross samples, drawn from those that are not poisoned.

    Args:
        labels: (N,) int64, the true ones.
        roles: (N,) uint8, in which the poisoned samples are known.
        attack: says how many, and from which classes.
        streams: of the run.

    Raises:
        InputError: there are not so many.
    """
    free, poisoned = roles == Role.CLEAN, int((roles == Role.POISONED).sum())
    if attack.cross_from_attackable:
        free &= attack.context.rule.attackable(labels)
    others = torch.nonzero(free).flatten()
    count = round(attack.cross_ratio * poisoned)
    if count > len(others):
        raise InputError(
            f"backdoor: {count} cross samples beside {poisoned} poisoned ones, but only "
            f"{len(others)} images are left for them; lower backdoor.poison_ratio"
        )
    cross = draw(others, count, streams.torch("cross"))
    if poisoned:
        refuse_none(cross, attack.cross_ratio, "cross samples", f"{poisoned} poisoned ones")
    return cross


def refuse_none(chosen: Tensor, share: float, key: str, whole: str) -> None:
    """Raise `InputError` if a share above 0 is no sample at all: nobody means that."""
    if share > 0 and not len(chosen):
        raise InputError(f"backdoor: {key}: {share} of {whole} is not a single sample; raise it")


def poison(
    data: ImageData, attack: Attack, ratio: float, selection: Selection, streams: Streams
) -> tuple[TrainingSet, Truth]:
    """Return the data set with a backdoor, and the truth about it.

    The trigger is applied once, to the stored images, before any augmentation.
    """
    images, labels = data.train.own_copy(), data.train.labels.clone()
    roles = assign_roles(data.train, attack, ratio, selection, streams)
    poisoned = torch.nonzero(roles == Role.POISONED).flatten()
    images[poisoned] = attack.apply(images[poisoned], poisoned, "train")
    if not attack.clean_label:
        labels[poisoned] = attack.relabel(labels[poisoned], poisoned)
    cross = torch.nonzero(roles == Role.CROSS).flatten()
    if len(cross):
        images[cross] = attack.apply_cross(images[cross], cross)
    truth = Truth(roles, data.train.labels, data.test, triggered_split(data.test, attack))
    return TrainingSet(images, labels, data.classes, files=data.train.files), truth


def triggered_split(test: Split, attack: Attack) -> Split:
    """Return the set on which ASR is measured: what the attack would relabel, triggered.

    All-to-one: the test images whose label is not the target; all-to-all: all of them.
    """
    if not len(test):
        return test  # there is nothing to measure
    rule = attack.context.rule
    others = torch.nonzero(rule.attackable(test.labels)).flatten()
    images = attack.apply(test.images[others], others, "test")
    return Split(images, rule.relabel(test.labels[others]))


def as_defended(data: ImageData) -> TrainingSet:
    """Return the training part of `data` as it is."""
    train, root = data.train, data.root
    home = None if root is None or train.files is None else Home(root, data.added)
    return TrainingSet(train.images, train.labels, data.classes, files=train.files, home=home)


def leave_clean(data: ImageData) -> tuple[TrainingSet, Truth]:
    """Return the data set as it is, for a run without an attack."""
    roles = torch.zeros(len(data.train), dtype=torch.uint8)
    training = as_defended(data)
    return training, Truth(roles, data.train.labels, data.test, None)

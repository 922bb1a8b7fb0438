"""The kinds of training sets on which the verdict is calibrated, and their labels.

Simulated and real sets are made from the same descriptions: who is labelled wrongly, by whom, and
how many. Everything here is the truth, which only a benchmark knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Kind:
    """A kind of training set.

    Attributes:
        name: of the kind.
        classes: number of classes.
        imbalance: how many times as large as the smallest class the largest is.
        noise: share of the samples whose label is wrong in any way, evenly.
        confused: share of one class that a labeller has given to one other class.
        default: share of the samples, of all classes, that a labeller has given to one class.
        poison: share of the samples that are poisoned, all targets together.
        targets: labels that the poison has.
        confident: whether the model's median loss is below 1e-3.
        in_class_order: whether a class's samples follow each other.
    """

    name: str
    classes: int = 10
    imbalance: float = 1.0
    noise: float = 0.0
    confused: float = 0.0
    default: float = 0.0
    poison: float = 0.0
    targets: int = 1
    confident: bool = False
    in_class_order: bool = False

    @property
    def expected(self) -> str:
        """What the set is: `poisoned`, `clean`, or `mislabelled`, which looks like poison."""
        if self.poison > 0:
            return "poisoned"
        return "mislabelled" if self.default > 0 else "clean"


CLEAN = (
    Kind("class order", in_class_order=True),
    Kind("10 % even label noise", noise=0.1),
    Kind("a labeller gave a third of one class to another", confused=1 / 3),
    Kind("2 classes", classes=2),
    Kind("3 classes", classes=3),
    Kind("43 classes", classes=43),
    Kind("100 classes", classes=100),
    Kind("imbalance 20:1", imbalance=20.0),
    Kind("very confident model", confident=True, in_class_order=True),
    Kind("plain"),
)
MISLABELLED = (Kind("a labeller's default, 5 % of all labels", default=0.05),)
POISONED = tuple(
    Kind(
        f"{ratio:.1%} poison, {targets} target{'s' * (targets > 1)}", poison=ratio, targets=targets
    )
    for ratio in (0.005, 0.01, 0.05)
    for targets in (1, 2, 3)
)
POISONED_VARIED = (
    Kind("5 % poison, 2 classes", classes=2, poison=0.05),
    Kind("5 % poison, 3 classes", classes=3, poison=0.05),
    Kind("1 % poison, 43 classes", classes=43, poison=0.01),
    Kind("1 % poison, 100 classes, 2 targets", classes=100, poison=0.01, targets=2),
    Kind("5 % poison, imbalance 20:1", imbalance=20.0, poison=0.05),
    Kind("1 % poison, very confident model", confident=True, poison=0.01, in_class_order=True),
    Kind("5 % poison and 10 % even label noise", noise=0.1, poison=0.05),
)
EVERY_KIND = (*CLEAN, *MISLABELLED, *POISONED, *POISONED_VARIED)


@dataclass(frozen=True)
class Labels:
    """The labels of N samples.

    Attributes:
        true: (N,) int64.
        given: (N,) int64.
        poisoned: (N,) bool, has a trigger and a target's label.
        targets: classes that the poison is labelled with, or that a labeller's default is.
    """

    true: Integers
    given: Integers
    poisoned: Flags
    targets: tuple[int, ...]


def class_sizes(kind: Kind, count: int) -> list[int]:
    """Return how many of about `count` samples each class has, falling as a geometric row."""
    steps = np.arange(kind.classes) / max(kind.classes - 1, 1)
    shares = kind.imbalance**-steps
    return [max(1, round(count * float(share))) for share in shares / shares.sum()]


def mislabel(kind: Kind, true: Integers, generator: np.random.Generator) -> Labels:
    """Return labels of the kind for samples of the classes `true` (N,)."""
    given = true.copy()
    free = generator.permutation(len(true))
    noisy = free[: round(kind.noise * len(true))]
    shift = generator.integers(1, max(kind.classes, 2), len(noisy))
    given[noisy] = (true[noisy] + shift) % kind.classes
    classes = generator.permutation(kind.classes)
    if kind.confused:
        members = np.flatnonzero(given == classes[0])
        given[members[: round(kind.confused * len(members))]] = classes[1]
    targets = classes[: kind.targets].tolist() if kind.poison or kind.default else []
    rest = free[len(noisy) :]
    poisoned = np.zeros(len(true), dtype=np.bool_)
    for place, target in enumerate(targets):
        sources = rest[(true[rest] != target) & (given[rest] == true[rest])]
        chosen = sources[: share_of(kind, len(true), place)]
        given[chosen] = target
        poisoned[chosen] = kind.poison > 0
    return Labels(true, given, poisoned, tuple(targets))


def share_of(kind: Kind, count: int, place: int) -> int:
    """Return how many samples the target at `place` gets: evenly, the first ones one more."""
    total = round((kind.poison or kind.default) * count)
    return total // kind.targets + (place < total % kind.targets)


def halves(seeds: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the seeds that set thresholds, and those that only test them."""
    middle = math.ceil(len(seeds) / 2)
    return list(seeds[:middle]), list(seeds[middle:])

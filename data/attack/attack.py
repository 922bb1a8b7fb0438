"""What every attack has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from data.dataset import ImageData, Split
from utils.errors import InputError
from utils.section import Section
from utils.streams import Streams

SplitName = Literal["train", "test"]
LabelRuleName = Literal["all_to_one", "all_to_all"]
MOST_CROSS = 1000.0  # cross samples for each poisoned one


@dataclass(frozen=True)
class LabelRule:
    """Which label a triggered image shall get.

    Attributes:
        name: `all_to_one`: the target, from every other class; `all_to_all`: the next class.
        target_label: of `all_to_one`, and the class that a clean-label attack poisons.
        num_classes: of the data.

    Raises:
        InputError: the target is none of the classes.
    """

    name: LabelRuleName
    target_label: int
    num_classes: int

    def __post_init__(self) -> None:
        if self.name == "all_to_one" and self.target_label >= self.num_classes:
            raise InputError(
                f"backdoor.target_label: {self.target_label}, but the classes are 0 to "
                f"{self.num_classes - 1}"
            )

    def relabel(self, labels: Tensor) -> Tensor:
        """Return the attacker's labels (n,) int64 for images whose true ones are `labels` (n,)."""
        if self.name == "all_to_all":
            return (labels + 1) % self.num_classes
        return torch.full_like(labels, self.target_label)

    def attackable(self, labels: Tensor) -> Tensor:
        """Return which images (n,) bool would get another label; ASR is measured on these."""
        return self.relabel(labels) != labels

    def number(self, labels: Tensor, ratio: float) -> int:
        """Return how many samples are poisoned: a share of all, as in the paper.

        Raises:
            InputError: fewer have another label.
        """
        count, most = round(ratio * len(labels)), int(self.attackable(labels).sum())
        if count > most:
            raise InputError(
                f"backdoor.poison_ratio: {ratio} asks for {count} samples, but only {most} have "
                f"another label than backdoor.target_label"
            )
        return count


@dataclass(frozen=True)
class AttackContext:
    """What an attack may know about the data that it poisons.

    Attributes:
        height, width: of the images, in pixels.
        rule: the labels that triggered images shall get.
        streams: the run's random streams; those of an attack begin with "attack".
    """

    height: int
    width: int
    rule: LabelRule
    streams: Streams

    def refuse_small_images(self, attack: str, smallest: int, needed_by: str) -> None:
        """Raise `InputError` if a side of the images has fewer than `smallest` pixels.

        Args:
            attack: its name in the YAML.
            smallest: pixels.
            needed_by: what of the attack needs them, with its verb: "its networks need".
        """
        if min(self.height, self.width) < smallest:
            raise InputError(
                f"backdoor.{attack}: the images are {self.width}x{self.height} pixels, and "
                f"{needed_by} at least {smallest}x{smallest}; choose another attack"
            )


class Attack(ABC):
    """A trigger, applied once to the stored images, before any augmentation.

    Args:
        settings: what the YAML says below the attack's name.
        context: the data that it poisons.
    """

    class Settings(Section):
        """What the YAML may set below the attack's name."""

    # A clean-label attack poisons images of the target class and leaves their labels: its settings
    # have a `class_fraction`, the poisoned share of that class, and `poison_ratio` is not read.
    clean_label: ClassVar[bool] = False
    # Whether cross samples are drawn only from classes whose label the attack would change; else
    # from all that is left.
    cross_from_attackable: ClassVar[bool] = False
    # Whether making the poisoned images takes longer than reading them from the disk.
    worth_caching: ClassVar[bool] = True
    # Raised whenever the attack would make another set of the same settings; kept sets go by it.
    version: ClassVar[int] = 1
    # Whether `prepare` trains networks, for minutes or hours.
    learns: ClassVar[bool] = False

    def __init__(self, settings: Section, context: AttackContext) -> None:
        self.settings: Any = settings
        self.context = context

    @property
    def cross_ratio(self) -> float:
        """Cross samples (changed, with their true label) for each poisoned one; none by default."""
        return 0.0

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Learn what the trigger needs (a generator, perturbations) from the clean `data`.

        Called once before `apply`, and only where the poisoned set is not cached.

        Args:
            data: the clean data set.
            device: where networks are trained.
            folder: the attack's own, to keep what it learnt and to resume from; it may not exist.
        """
        return

    def choose(self, train: Split, ratio: float) -> Tensor | None:
        """Return the indices (n,), sorted, of the samples to poison; None: they are drawn.

        Args:
            train: the clean training images with their labels.
            ratio: share of the whole set that is poisoned.
        """
        return None

    def relabel(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Return the labels (n,) int64 of poisoned training samples; their true ones are `labels`.

        Test images get those of the rule.
        """
        return self.context.rule.relabel(labels)

    @abstractmethod
    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return triggered copies of `images`.

        A pure function: the same image, index and split give the same bytes, whatever else is in
        the batch, and the input is left as it is.

        Args:
            images: (N, H, W, 3) uint8.
            indices: (N,) int64, the images' places in their split.
            split: "train" or "test".

        Returns:
            (N, H, W, 3) uint8.
        """

    def apply_cross(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return copies of training images as cross samples; arguments as those of `apply`."""
        raise NotImplementedError(f"{type(self).__name__} has no cross samples")

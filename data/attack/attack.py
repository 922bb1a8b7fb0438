"""What every attack has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from config.section import Section
from utils.streams import Streams

SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class Scene:
    """What an attack may know about the data that it poisons.

    Attributes:
        height, width: of the images, in pixels.
        target_label: the label that triggered images shall get.
        streams: the run's random streams; an attack draws from "attack" alone.
    """

    height: int
    width: int
    target_label: int
    streams: Streams


class Attack(ABC):
    """A trigger, applied once to the stored images, before any augmentation.

    Args:
        settings: what the YAML says below the attack's name.
        scene: the data that it poisons.
    """

    class Settings(Section):
        """What the YAML may set below the attack's name."""

    def __init__(self, settings: Section, scene: Scene) -> None:
        self.scene = scene

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

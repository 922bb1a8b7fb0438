"""What a data set is to the rest of the project: two uint8 tensors and the names of the classes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.errors import InputError


@dataclass(frozen=True)
class Split:
    """Images and their labels, decoded once.

    Attributes:
        images: (N, H, W, 3) uint8, RGB.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first_of_each_class(self, count: int, num_classes: int) -> Split:
        """Return `count` samples, equally many of each class, the first ones in file order.

        No draw is involved, so that anybody who reads `train_samples: 10000` has the same set.
        """
        share, rest = divmod(count, num_classes)
        keep = [
            torch.nonzero(self.labels == label).flatten()[: share + (label < rest)]
            for label in range(num_classes)
        ]
        index = torch.cat(keep).sort().values
        if len(index) < count:
            raise InputError(f"data.train_samples: {count} asked for, {len(index)} can be had")
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageData:
    """A data set as its authors published it: nothing is poisoned yet."""

    train: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all images and labels, by which a resumed run knows its data."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(split.images.numpy().data)
            digest.update(split.labels.numpy().data)
        return digest.hexdigest()


class Source(ABC):
    """Where a data set comes from."""

    # The published code finds its data set by this word in `dataset_dir`; None: no such rule.
    published_word: str | None = None

    @abstractmethod
    def load(self, folder: str | None) -> ImageData:
        """Return the data set, read from (or downloaded to) `folder`.

        Raises:
            InputError: the data are not there and cannot be had.
        """

"""What a data set is to the rest of the project: two uint8 tensors and the names of the classes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from data.dataset.decode import Frame
from data.dataset.settings import DataSection
from utils.download import refusing_failure
from utils.errors import InputError


@dataclass(frozen=True)
class Request:
    """What a data set is asked for.

    Attributes:
        folder: `dataset_dir` of the YAML.
        settings: `data` of the YAML.
        cache: where decoded images may be kept; the folder need not exist.
    """

    folder: str | None
    settings: DataSection
    cache: Path


def map_pixels(path: Path, shape: Sequence[int]) -> Tensor:
    """Return the pixels as a uint8 tensor of `shape`; writing to it changes memory, not the file.

    A page is read from the disk when it is used, and may leave the memory again.
    """
    if shape[0] == 0:  # an empty file cannot be mapped
        return torch.empty(tuple(shape), dtype=torch.uint8)
    return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c", shape=tuple(shape)))


@dataclass(frozen=True)
class Split:
    """Images and their labels, decoded once.

    Attributes:
        images: (N, H, W, 3) uint8, RGB; perhaps mapped from a file larger than the memory. N may be
            0 in a test set: then there is nothing to measure.
        labels: (N,) int64.
        files: N paths relative to the data set's folder, where each image is a file of its own.
        digest: SHA-256 of all pixels, where it is known without reading them.
        mapped_from: the file that the images are mapped from; None for images in memory.
    """

    images: Tensor
    labels: Tensor
    files: tuple[str, ...] | None = None
    digest: str | None = None
    mapped_from: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def own_copy(self) -> Tensor:
        """Return the images such that they may be written.

        Mapped ones are mapped once more: what is written takes memory, the rest stays in the file.
        """
        if self.mapped_from is None:
            return self.images.clone()
        return map_pixels(self.mapped_from, self.images.shape)

    def picked(self, index: Tensor) -> Split:
        """Return the samples `index` (n,), in memory."""
        files = None if self.files is None else tuple(self.files[i] for i in index.tolist())
        return Split(self.images[index], self.labels[index], files)

    def joined(self, other: Split) -> Split:
        """Return these samples and those of `other` behind them, in memory."""
        files = None if self.files is None or other.files is None else self.files + other.files
        images = torch.cat([self.images, other.images])
        return Split(images, torch.cat([self.labels, other.labels]), files)

    def first_of_each_class(self, count: int, num_classes: int) -> Split:
        """Return `count` samples, equally many of each class, the first ones in file order.

        No draw is involved, so that anybody who reads `train_samples: 10000` has the same set.
        """
        index = first_of_each_class(self.labels, count, num_classes)
        if len(index) < count:
            raise InputError(f"data.train_samples: {count} asked for, {len(index)} can be had")
        return self.picked(index)


def first_of_each_class(labels: Tensor, count: int, num_classes: int) -> Tensor:
    """Return the first `count` samples, equally many of each class, as sorted indices.

    Args:
        labels: (N,) int64.
        count: in all; a class that is too small gives all it has.
        num_classes: number of classes.
    """
    share, rest = divmod(count, num_classes)
    keep = [
        torch.nonzero(labels == label).flatten()[: share + (label < rest)]
        for label in range(num_classes)
    ]
    return torch.cat(keep).sort().values


def fetching(title: str, root: Path, address: str) -> AbstractContextManager[None]:
    """Return the gate for a block that downloads the set `title` from `address` to `root`.

    Raises:
        InputError: when the block fails, whatever it meets; no empty folder is left of it then.
    """
    return refusing_failure(
        lambda why: (
            f"dataset_dir: {title} is not (whole) in {root} and could not be downloaded ({why}); "
            f"get {address} and unpack it there"
        ),
        root,
    )


@dataclass(frozen=True)
class ImageData:
    """A data set as its authors published it: nothing is poisoned yet.

    Attributes:
        train, test: its two parts; `test` may be empty.
        classes: names; a label is a place in this list.
        notices: lines to say, about what was left out or looks odd.
        frame: how a file of any size becomes an image of the set; None where it has no files.
        root: the folder to which the splits' files are relative; None where it has no files.
        left_out: files of training images on which no run with these data trains: they cannot be
            read, are more than `data.train_samples`, or are held out.
        added: the folder of the verified images that were added to the training images as
            `seeds/<class>/...`; None where none were.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    notices: tuple[str, ...] = ()
    frame: Frame | None = None
    root: Path | None = None
    left_out: tuple[str, ...] = ()
    added: Path | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def trained_on(self, train: Split) -> ImageData:
        """Return the same with `train`, a part of the training images; the others are left out."""
        kept = set(train.files or ())
        gone = (file for file in self.train.files or () if file not in kept)
        return replace(self, train=train, left_out=(*self.left_out, *gone))

    def fingerprint(self) -> str:
        """Return the SHA-256 of all images and labels, by which a resumed run knows its data."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            if split.digest is None:
                digest.update(split.images.numpy().data)
            else:
                digest.update(split.digest.encode())
            digest.update(split.labels.numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Outline:
    """What the training images are like, without their pixels.

    Attributes:
        labels: (N,) int64.
        side: the shorter one, in pixels; where images differ, its median.
    """

    labels: Tensor
    side: int


class Source(ABC):
    """Where a data set comes from."""

    # The published code finds its data set by this word in `dataset_dir`; None: no such rule.
    published_word: str | None = None
    # The keys of the YAML's `data` that mean something to this set, beside `train_samples`.
    settings_read: ClassVar[frozenset[str]] = frozenset()
    # Whether strangers could not have changed it: then its samples are trusted until we poison it.
    known_to_be_clean: ClassVar[bool] = True
    # Whether people may lay verified images beside its own, in folders of the same classes.
    takes_verified_images: ClassVar[bool] = False

    @abstractmethod
    def load(self, request: Request) -> ImageData:
        """Return the data set, read from (or downloaded to) `request.folder`.

        Raises:
            InputError: the data are not there and cannot be had.
        """

    def outline(self, request: Request) -> Outline:
        """Return what the training images are like; here they are loaded for it.

        Raises:
            InputError: the data are not there and cannot be had.
        """
        train = self.load(request).train
        return Outline(train.labels, min(train.images.shape[1:3]))

    @classmethod
    def training_folder(cls, root: Path) -> Path:
        """Return the folder that holds the class folders of the set in `root`."""
        raise NotImplementedError("only of a set that takes verified images")

    @classmethod
    def folders_of_classes(cls, root: Path) -> list[Path]:
        """Return where each folder is a class of the set in `root`, whether it exists or not."""
        return []

    @classmethod
    def chosen_classes(cls, root: Path, settings: DataSection) -> frozenset[str] | None:
        """Return the classes that the user's own list chooses; None: all folders are classes."""
        return None

"""CIFAR-10 (Krizhevsky 2009) through torchvision, which checks the MD5 sum of every file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from data.dataset.source import ImageData, Source, Split
from utils.errors import InputError


def archive_root(folder: str | None) -> Path:
    """Return the folder that holds (or will hold) `cifar-10-batches-py`.

    `folder` may be that root or, as in the published YAML, the batches folder itself.
    """
    if folder is None:
        raise InputError("dataset_dir: missing; name the folder that holds (or gets) CIFAR-10")
    path = Path(folder).expanduser()
    return path.parent if path.name == CIFAR10.base_folder else path


class Cifar10(Source):
    """50,000 training and 10,000 test images, 32x32, ten classes."""

    published_word = "cifar"

    def load(self, folder: str | None) -> ImageData:
        """Return CIFAR-10; download it when it is not there."""
        root = archive_root(folder)
        try:
            train = CIFAR10(str(root), train=True, download=True)
            test = CIFAR10(str(root), train=False)
        except (OSError, RuntimeError) as error:  # no network, read-only folder, damaged archive
            raise InputError(
                f"dataset_dir: CIFAR-10 is not (whole) in {root} and could not be downloaded "
                f"({error}); get {CIFAR10.url} and unpack it there"
            ) from error
        return ImageData(self._split(train), self._split(test), tuple(train.classes))

    @staticmethod
    def _split(dataset: CIFAR10) -> Split:
        images = np.ascontiguousarray(dataset.data)  # torchvision's is a transposed view
        return Split(torch.from_numpy(images), torch.tensor(dataset.targets))

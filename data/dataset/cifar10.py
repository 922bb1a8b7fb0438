"""CIFAR-10 (Krizhevsky 2009) through torchvision, which checks the MD5 sum of every file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from data.dataset.source import ImageData, Request, Source, Split, fetching
from utils.errors import InputError
from utils.paths import user_path


class Cifar10(Source):
    """50,000 training and 10,000 test images, 32x32, ten classes."""

    published_word: str | None = "cifar"
    title: ClassVar[str] = "CIFAR-10"
    archive: ClassVar[type[CIFAR10]] = CIFAR10  # torchvision's reader

    def load(self, request: Request) -> ImageData:
        """Return the set; download it when it is not there."""
        root = self._root(request.folder)
        with fetching(self.title, root, self.archive.url):
            train = self.archive(str(root), train=True, download=True)
            test = self.archive(str(root), train=False)
        return ImageData(self._split(train), self._split(test), tuple(train.classes))

    def _root(self, folder: str | None) -> Path:
        """Return the folder that holds (or will hold) the folder of the archive.

        `folder` may be that root or, as in the published YAML, the archive's folder itself.
        """
        if folder is None:
            raise InputError(
                f"dataset_dir: missing; name the folder that holds (or gets) {self.title}"
            )
        path = user_path(folder, "dataset_dir")
        return path.parent if path.name == self.archive.base_folder else path

    @staticmethod
    def _split(dataset: CIFAR10) -> Split:
        images = np.ascontiguousarray(dataset.data)  # torchvision's is a transposed view
        return Split(torch.from_numpy(images), torch.tensor(dataset.targets))

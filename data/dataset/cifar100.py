"""CIFAR-100 (Krizhevsky 2009): the files are made as CIFAR-10's, the labels are the fine ones."""

from __future__ import annotations

from typing import ClassVar

from torchvision.datasets import CIFAR10, CIFAR100

from data.dataset.cifar10 import Cifar10


class Cifar100(Cifar10):
    """50,000 training and 10,000 test images, 32x32, a hundred classes."""

    published_word = None  # the published code takes any folder with "cifar" in it for CIFAR-10
    title: ClassVar[str] = "CIFAR-100"
    archive: ClassVar[type[CIFAR10]] = CIFAR100

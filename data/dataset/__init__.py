"""Data sets by name. To add one: a file with a subclass of `Source`, and a line in `DATASETS`."""

from data.dataset.source import ImageData, Outline, Request, Source, Split
from utils.registry import Registry

DATASETS: Registry[Source] = Registry(
    "dataset",
    {
        "cifar10": "data.dataset.cifar10:Cifar10",
        "cifar100": "data.dataset.cifar100:Cifar100",
        "digits": "data.dataset.digits:Digits",
        "gtsrb": "data.dataset.gtsrb:Gtsrb",
        "image_folder": "data.dataset.image_folder:ImageFolder",
    },
)

__all__ = ["DATASETS", "ImageData", "Outline", "Request", "Source", "Split"]

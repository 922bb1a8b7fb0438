"""Data sets by name. To add one: a file with a subclass of `Source`, and a line in `DATASETS`."""

from data.dataset.source import ImageData, Source, Split
from utils.registry import Registry

DATASETS: Registry[Source] = Registry(
    "dataset",
    {
        "cifar10": "data.dataset.cifar10:Cifar10",
        "digits": "data.dataset.digits:Digits",
    },
)

__all__ = ["DATASETS", "ImageData", "Source", "Split"]

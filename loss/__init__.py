"""Losses by name. To add one: a file with a subclass of `Criterion`, and a line in `CRITERIA`."""

from loss.criterion import Criterion
from utils.registry import Registry

CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    {
        "cross_entropy": "loss.cross_entropy:CrossEntropy",
        "sce": "loss.sce:SymmetricCrossEntropy",
    },
)

__all__ = ["CRITERIA", "Criterion"]

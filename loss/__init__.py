"""Losses by name. To add one: a file with a subclass of `Criterion`, and a line in `CRITERIA`."""

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from loss.criterion import Criterion
from utils.choice import Choice, dump_choice, from_registry
from utils.registry import Registry

CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    {
        "cross_entropy": "loss.cross_entropy:CrossEntropy",
        "sce": "loss.sce:SymmetricCrossEntropy",
    },
)

CriterionChoice = Annotated[
    Choice, BeforeValidator(from_registry(CRITERIA)), PlainSerializer(dump_choice)
]


def build_criterion(choice: Choice) -> Criterion:
    """Return the chosen loss."""
    return CRITERIA.get(choice.name)(choice.settings)


__all__ = ["CRITERIA", "Criterion", "CriterionChoice", "build_criterion"]

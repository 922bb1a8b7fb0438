"""What the YAML says of transformations: `transform`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from data.transform import TRANSFORMATIONS, Normalize
from utils.choice import Choice, chosen_in_order
from utils.section import Section


def read_chain(given: Any) -> list[Choice]:
    """Validate an ordered mapping of transformations; a null entry is left out."""
    if isinstance(given, list) and all(isinstance(step, Choice) for step in given):
        return given
    expected = "a mapping of transformations is expected"
    return chosen_in_order(TRANSFORMATIONS, given, expected, null_is_none=True)


def dump_chain(choices: list[Choice]) -> dict[str, Any]:
    """Return a chain as it stands in a YAML."""
    return {choice.name: choice.settings.model_dump() for choice in choices}


TransformChain = Annotated[list[Any], BeforeValidator(read_chain), PlainSerializer(dump_chain)]


class RemainingSection(Section):
    """The end of a chain: always to a tensor, perhaps normalised."""

    to_tensor: Literal[True] = True
    normalize: Normalize = Normalize()


class UseSection(Section):
    """The transformations of one use (`train` or `test`)."""

    primary: TransformChain = Field(default_factory=list)
    remaining: RemainingSection = RemainingSection()


class TransformSection(Section):
    """`transform`: `pre` once before the trigger, `train` at every draw, `test` in evaluation."""

    pre: TransformChain = Field(default_factory=list)
    train: UseSection = UseSection()
    test: UseSection = UseSection()

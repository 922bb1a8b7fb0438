"""What the YAML says of transformations: `transform`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from data.transform import TRANSFORMATIONS, Normalize
from utils.choice import Choice, chosen
from utils.section import Section, unknown_key


def read_chain(given: Any) -> list[Choice]:
    """Validate an ordered mapping of transformations; a null entry is left out."""
    if isinstance(given, list) and all(isinstance(step, Choice) for step in given):
        return given
    if given is not None and not isinstance(given, dict):
        raise PydanticCustomError("mapping", "a mapping of transformations is expected")
    choices = []
    for name, settings in (given or {}).items():
        if name not in TRANSFORMATIONS:
            raise unknown_key(str(name), TRANSFORMATIONS)
        if settings is not None:
            choices.append(chosen(TRANSFORMATIONS, name, settings))
    return choices


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

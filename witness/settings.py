"""`witness` of the YAML: which witnesses are heard, and how their plain model is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from utils.choice import Choice, chosen_in_order
from utils.section import Section
from witness import WITNESSES
from witness.reference import ReferenceSettings


def read_heard(given: Any) -> list[Choice]:
    """Validate a list of witnesses' names, or a mapping from names to their settings."""
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        given = dict.fromkeys(given)
    if isinstance(given, list) and all(isinstance(part, Choice) for part in given):
        return given
    return chosen_in_order(WITNESSES, given, "a list of witnesses' names is expected")


def dump_heard(choices: list[Choice]) -> dict[str, Any]:
    """Return the witnesses as they stand in a YAML."""
    return {choice.name: choice.settings.model_dump(exclude_none=True) for choice in choices}


Heard = Annotated[list[Any], BeforeValidator(read_heard), PlainSerializer(dump_heard)]


VetoedUse = Literal["unlabelled", "left_out", "contradicted"]


class WitnessSection(Section):
    """`witness`: independent opinions on single samples.

    `heard`: names, or a mapping from names to settings; nobody is heard by default, as in the
    paper. A sample that one of them vetoes never keeps its label. `vetoed` says whether it is still
    seen without its label (`unlabelled`), is not seen at all (`left_out`), or is seen while the
    model in training contradicts the vetoed label (`contradicted`): where all samples with a
    trigger show the target class, as clean-label poison does, a guess gives the label back and
    teaches the trigger. `reference`: the plain model that they look at.
    """

    reference: ReferenceSettings = ReferenceSettings()
    heard: Heard = Field(default_factory=list)
    vetoed: VetoedUse = "unlabelled"

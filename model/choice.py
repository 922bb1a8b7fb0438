"""A section of the YAML that chooses a network."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from model import NETWORKS
from utils.choice import Choice, dump_choice, from_registry

NetworkChoice = Annotated[
    Choice, BeforeValidator(from_registry(NETWORKS)), PlainSerializer(dump_choice)
]

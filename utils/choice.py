"""Sections of the YAML that name one of several parts, e.g. `network: {resnet18_cifar: {...}}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from utils.errors import nearest
from utils.registry import Registry
from utils.section import Section, unknown_key


@dataclass(frozen=True)
class Choice:
    """A part that was chosen, and its settings.

    Attributes:
        name: as in the YAML.
        settings: validated, for parts of this project.
        arguments: keyword arguments, for classes of PyTorch.
    """

    name: str
    settings: Section = field(default_factory=Section)
    arguments: dict[str, Any] = field(default_factory=dict)

    def as_yaml(self) -> dict[str, Any]:
        """Return the choice as it stands in a YAML."""
        if self.arguments:
            return {self.name: self.arguments}
        return {self.name: self.settings.model_dump(exclude_none=True) or None}


def nested_error(error: ValidationError, *location: str) -> PydanticCustomError:
    """Wrap the errors of a part's settings; `config.load` unfolds them in their places."""
    errors = [dict(item, loc=(*location, *item["loc"])) for item in error.errors()]
    return PydanticCustomError("nested", "nested", {"errors": errors})


def single_name(given: Any, kind: str, known: Iterable[str]) -> str:
    """Return the one key of `given`, a known name."""
    if not isinstance(given, dict) or len(given) != 1:
        raise PydanticCustomError(
            "one_of", "name exactly one {kind}, with its settings below it", {"kind": kind}
        )
    name = str(next(iter(given)))
    if name not in set(known):
        raise unknown_key(name, known)
    return name


def chosen(registry: Registry[Any], name: str, settings: Any) -> Choice:
    """Return the part called `name`, with what stands below its name in the YAML, validated.

    Raises:
        PydanticCustomError: its class cannot take these settings.
    """
    kind: type[Section] = registry.get(name).Settings
    try:
        return Choice(name, kind.model_validate(settings))
    except ValidationError as error:
        raise nested_error(error, name) from error


def chosen_in_order(
    registry: Registry[Any], given: Any, expected: str, null_is_none: bool = False
) -> list[Choice]:
    """Return the parts that a mapping of names to their settings chooses, in its order.

    Args:
        registry: of the parts.
        given: as it stands in the YAML; None: nothing is chosen.
        expected: what to say where it is no mapping.
        null_is_none: whether a name with nothing below it is left out; else it has its defaults.

    Raises:
        PydanticCustomError: it is no mapping, or no part has such a name or such settings.
    """
    if given is not None and not isinstance(given, dict):
        raise PydanticCustomError("mapping", "{expected}", {"expected": expected})
    choices = []
    for name, settings in (given or {}).items():
        if name not in registry:
            raise unknown_key(str(name), registry)
        if settings is not None or not null_is_none:
            choices.append(chosen(registry, name, settings))
    return choices


def from_registry(registry: Registry[Any]) -> Callable[[Any], Choice]:
    """Return the validator for a part of this project: its class says what may be set."""

    def choose(given: Any) -> Choice:
        if isinstance(given, Choice):
            return given
        name = single_name(given, registry.kind, registry)
        return chosen(registry, name, given[name])

    return choose


def known_in(registry: Registry[Any]) -> Callable[[Any], Any]:
    """Return the validator for a key whose value is a part's name, without settings."""

    def check(given: Any) -> Any:
        if isinstance(given, str) and given not in registry:
            message = {"kind": registry.kind, "given": given, "hint": nearest(given, registry)}
            raise PydanticCustomError("unknown_name", "no {kind} is called {given}{hint}", message)
        return given

    return check


def dump_choice(choice: Choice | None) -> dict[str, Any] | None:
    """Return the choice as it stands in a YAML."""
    return None if choice is None else choice.as_yaml()

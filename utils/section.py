"""The base of every typed part of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from utils.errors import nearest


def unknown_key(key: str, known: Iterable[str]) -> PydanticCustomError:
    """Return the error for a key that nothing reads, with the nearest valid one."""
    return PydanticCustomError(
        "unknown_key", "{key}: unknown key{hint}", {"key": key, "hint": nearest(key, known)}
    )


def contradiction(first: str, second: str, why: str) -> PydanticCustomError:
    """Return the error for two keys that cannot both hold."""
    message = {"first": first, "second": second, "why": why}
    return PydanticCustomError("contradiction", "{first} and {second} contradict: {why}", message)


def refuse_unknown_keys(given: Iterable[object], known: Collection[str]) -> None:
    """Raise `unknown_key` for the first of the `given` keys that is not `known`."""
    for key in given:
        if key not in known:
            raise unknown_key(str(key), known)


class Section(BaseModel):
    """A mapping of the YAML whose keys and types are known; a subclass lists them.

    Strict: `"3"` is no number and `true` no 1, so a slip of the pen is an error, not a surprise.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def known_keys(cls) -> set[str]:
        """Return what its fields are called in the YAML."""
        return {field.alias or name for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, given: Any) -> Any:
        if given is None:  # `badnets:` with nothing below it: all defaults
            return {}
        if isinstance(given, dict):
            refuse_unknown_keys(given, cls.known_keys())
        return given

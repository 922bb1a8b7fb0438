"""The base of every typed part of the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
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


class Below(NamedTuple):
    """What stands at a key of a section.

    Attributes:
        section: the type of its settings.
        may_be_nothing: whether an empty key has a meaning of its own: it takes away what is there,
            or chooses a part with its defaults.
    """

    section: type[Section]
    may_be_nothing: bool = False


class Section(BaseModel):
    """A mapping of the YAML whose keys and types are known; a subclass lists them.

    Strict: `"3"` is no number and `true` no 1, so a slip of the pen is an error, not a surprise.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def known_keys(cls) -> set[str]:
        """Return what its fields are called in the YAML."""
        return {field.alias or name for name, field in cls.model_fields.items()}

    @classmethod
    def below(cls, key: str) -> Below | None:
        """Return the section at `key`; None for a plain value, or for a part that is chosen."""
        kinds = cls._kinds(key)
        found = [kind for kind in kinds if issubclass(kind, Section)]
        return Below(found[0], type(None) in kinds) if found else None

    @classmethod
    def takes_text(cls, key: str) -> bool:
        """Return whether `key` holds a text, or nothing."""
        return str in cls._kinds(key)

    @classmethod
    def _kinds(cls, key: str) -> list[type]:
        """Return the classes that the value at `key` may have; none of an unknown key."""
        for name, field in cls.model_fields.items():
            if key == (field.alias or name):
                options = [field.annotation, *get_args(field.annotation)]
                return [kind for kind in options if inspect.isclass(kind)]
        return []

    @classmethod
    def emptied(cls, inherited: Any) -> Any:
        """Return what is left of inherited settings below an empty key: all, where none is new."""
        return inherited

    @classmethod
    def spelt_out(cls, given: Any) -> Any:
        """Return the mapping that a plain value stands for, where it stands for one."""
        return given

    def unread(self) -> dict[str, tuple[str, ...]]:
        """Return its keys that change nothing as it is set, by the key of it that decides so."""
        return {}

    @model_serializer(mode="wrap")
    def _keep_what_is_taken_away(
        self, dump: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Dump the section; `exclude_none` leaves out what is nothing by default, and no more.

        A None in place of another default says something, and would be that default when read.
        """
        dumped: dict[str, Any] = dump(self)
        if not info.exclude_none:
            return dumped
        for name, field in type(self).model_fields.items():
            if getattr(self, name) is not None or name in (info.exclude or ()):
                continue
            if field.get_default(call_default_factory=True, validated_data={}) is not None:
                dumped[(info.by_alias and field.alias) or name] = None
        return dumped

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, given: Any) -> Any:
        if given is None:  # `badnets:` with nothing below it: all defaults
            return {}
        if isinstance(given, dict):
            refuse_unknown_keys(given, cls.known_keys())
        return given

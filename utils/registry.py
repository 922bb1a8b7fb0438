"""One table for each kind of exchangeable part (attack, data set, network, loss, defence).

An entry is `name -> "module:Class"`; the module is imported only when the name is used. Adding a
part is therefore one new file and one line in the table, and the core knows no part by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from utils.errors import InputError, nearest

Part = TypeVar("Part")


class Registry(Generic[Part]):
    """Names of the parts of one kind, and the classes behind them.

    Args:
        kind: what the parts are, for messages ("attack").
        entries: `name -> "module:Class"`.
    """

    def __init__(self, kind: str, entries: dict[str, str | type[Part]]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def register(self, name: str, part: type[Part]) -> None:
        """Add a class at run time, e.g. an attack defined in a notebook or a test."""
        self._entries[name] = part

    def get(self, name: str) -> type[Part]:
        """Return the class called `name`.

        Raises:
            InputError: there is no such part; the nearest name is given.
        """
        if name not in self._entries:
            raise InputError(f"unknown {self.kind} {name!r}{nearest(name, self)}")
        entry = self._entries[name]
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        return cast("type[Part]", getattr(importlib.import_module(module), attribute))

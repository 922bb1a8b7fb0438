"""Which formats a report writes: those that are asked for, and those that an earlier one has left.

A file for another tool that stayed as it was would contradict the report beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.formats import FORMATS


def due(asked: Sequence[str], folder: Path) -> list[str]:
    """Return the names of the formats to write to the report's `folder`, each once.

    Args:
        asked: names from the configuration.
        folder: of the report; perhaps it is not there yet.
    """
    return list(dict.fromkeys([*asked, *(name for name in FORMATS if is_left(name, folder))]))


def is_left(name: str, folder: Path) -> bool:
    """Return whether an earlier report has written a format to `folder`."""
    return any((folder / place).exists() for place in FORMATS.get(name).leaves)

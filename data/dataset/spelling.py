"""Names of files and classes in one spelling, and such as a person can hardly tell apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """Return a file name in one spelling: some systems store an umlaut as a letter and a dot."""
    return unicodedata.normalize("NFC", name.strip()).removeprefix("./")


def look_alike(names: Iterable[str]) -> list[str]:
    """Return a line for each class whose name a person can hardly tell from another's."""
    known: dict[str, str] = {}
    lines = []
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        other = known.setdefault(plain, name)
        if other != name:
            lines.append(f"two classes have names that look alike: {other!r} and {name!r}")
    return lines

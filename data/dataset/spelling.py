"""Names of files and classes in one spelling, and such as a person can hardly tell apart."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable

MOST_BYTES = 255  # of the name of a file or a folder, on all usual file systems


def fitting(stem: str, ending: str = "") -> str:
    """Return the name of a file, cut where it is too long for one; then a digest tells it apart."""
    name = stem + ending
    if len(os.fsencode(name)) <= MOST_BYTES:
        return name
    tail = f"_{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{ending}"
    room = MOST_BYTES - len(os.fsencode(tail))
    stem = stem[:room]
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + tail


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

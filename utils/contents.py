"""Files that a configuration names: what they hold counts, not what they are called.

One gate for all of them: a text field that names a file carries `Opened`, and whoever keeps
something for later asks `contents_of` what was in the files when it was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.choice import Choice
from utils.errors import InputError
from utils.files import find_place
from utils.section import Section

CHUNK = 2**20  # bytes that are read at a time
TRANSPARENT = ("attack", "parts")  # fields whose parts stand beside the other keys, by their names


@dataclass(frozen=True)
class Opened:
    """Marks a text field that names a file, or a folder of files, that a run reads.

    Attributes:
        among_images: whether it is looked for in the data set's folder first.
    """

    among_images: bool = False


def contents_of(settings: Section, prefix: str = "", images: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of every file, or folder of files, that settings name, by dotted key.

    A text that names none that is there, such as `DEFAULT` weights, is left out.

    Args:
        settings: any part of the configuration.
        prefix: of the keys: where the settings stand, with a dot at its end.
        images: the folder of the data set.

    Raises:
        InputError: a file is there and cannot be read, or a path is none.
    """
    found = {}
    for key, name, mark in named_files(settings, prefix):
        within = images / name if mark.among_images and images is not None else None
        place = within if within is not None and within.is_file() else find_place(name, key)
        if place is not None:
            found[key] = content_of(place, key)
    return found


def named_files(settings: Section, prefix: str = "") -> Iterator[tuple[str, str, Opened]]:
    """Yield dotted key, path and mark of each file that settings name, it need not exist."""
    for place, section in sections_in(settings, prefix):
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            marks = [item for item in field.metadata if isinstance(item, Opened)]
            if marks and isinstance(value, str) and value:
                yield f"{place}{field.alias or name}", value, marks[0]


def sections_in(settings: Section, prefix: str = "") -> Iterator[tuple[str, Section]]:
    """Yield settings and all sections in them, each with the prefix of its keys."""
    yield prefix, settings
    for name, field in type(settings).model_fields.items():
        inner = prefix if name in TRANSPARENT else f"{prefix}{field.alias or name}."
        for place, part in parts_of(getattr(settings, name), inner):
            yield from sections_in(part, place)


def parts_of(value: Any, prefix: str) -> Iterator[tuple[str, Section]]:
    """Yield the sections in a field's value, each with the prefix of its keys."""
    if isinstance(value, Section):
        yield prefix, value
    elif isinstance(value, Choice):
        yield f"{prefix}{value.name}.", value.settings
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts_of(item, prefix)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from parts_of(item, f"{prefix}{name}.")


def content_of(place: Path, key: str) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder.

    Raises:
        InputError: it cannot be read; `key` is the setting that named it.
    """
    digest = hashlib.sha256()
    try:
        if place.is_file():
            add_file(digest, place)
        else:
            for file in sorted(path for path in place.rglob("*") if path.is_file()):
                digest.update(repr(file.relative_to(place).as_posix()).encode())
                add_file(digest, file)
    except OSError as error:
        raise InputError(f"{key}: {place} cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def add_file(digest: Any, file: Path) -> None:
    """Add what a file holds to a hash."""
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)

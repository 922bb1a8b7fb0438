"""Where a path of the YAML or of the command line leads; one gate for all of them.

Each path is a person's text: it may have a home that is nobody's, a NUL, a line break, or lead to
where nobody may look. What passes here can be asked for by `Path` without another thought.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from utils.errors import InputError

CACHE = "cache"  # below storage_dir; no run has that name
SHOWN = 60  # characters of a wrong path in a message


def user_path(given: str, key: str) -> Path:
    """Return the path that `given` means, with `~` as the person's home; it need not exist.

    Args:
        given: as written by a person.
        key: the setting or argument that it comes from, for messages.

    Raises:
        InputError: it is no path, or one that nobody may look at.
    """
    if not given:
        raise InputError(f"{key}: is empty; a path is expected")
    refuse_control_characters(given, key)
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise InputError(f"{key}: {shortened(given)} begins with no known home") from error
    refuse_unusable(str(path), key)
    return path


def cache_folder(storage_dir: str) -> Path:
    """Return the folder of what runs share: decoded images, learnt poison, plain models."""
    return user_path(storage_dir, "storage_dir") / CACHE


def lies_in(place: Path, folder: Path) -> bool:
    """Return whether `place` is `folder` or lies in it, wherever links lead."""
    return place.resolve().is_relative_to(folder.resolve())


def refuse_unusable(path: str, key: str) -> None:
    """Raise `InputError` for a path that no system takes or that nobody may look at."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # perhaps it is made later
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no path"
        raise InputError(f"{key}: {shortened(path)} cannot be used ({why})") from error


def refuse_control_characters(given: str, key: str) -> None:
    """Raise `InputError` for a character that no name of a person's file holds."""
    for character in given:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            raise InputError(f"{key}: {shortened(given)} holds the character {character!r}")
    try:
        os.fsencode(given)
    except UnicodeEncodeError as error:
        raise InputError(f"{key}: {shortened(given)} is no text of this system") from error


def shortened(given: str) -> str:
    """Return a path for a message, without the middle of a very long one: its end tells more."""
    if len(given) <= SHOWN:
        return repr(given)
    return f"{given[: SHOWN // 3]!r}...{given[-SHOWN // 2 :]!r}"

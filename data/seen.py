"""Whether the files of somebody's own images are those of an earlier look, without reading them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from data.chosen_set import source_of
from data.settings import DataSettings
from utils.errors import InputError
from utils.paths import user_path


def listing_of(config: DataSettings) -> str | None:
    """Return the SHA-256 of the name, size and time of every file in the folders of the classes.

    None where the images are not somebody's own files, or are not there: nothing is known then.

    Raises:
        InputError: `dataset_dir` is no path.
    """
    source = source_of(config)
    if not source.takes_verified_images or config.dataset_dir is None:
        return None
    try:
        folders = source.folders_of_classes(user_path(config.dataset_dir, "dataset_dir"))
    except InputError:
        return None
    digest = hashlib.sha256()
    for number, folder in enumerate(folders):
        for file in files_below(folder):
            digest.update(repr((number, *file)).encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[tuple[str, int, int]]:
    """Return relative name, size in bytes and time in nanoseconds of each file, by name."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.stat(path)
            except OSError:  # a link to nowhere
                continue
            relative = os.path.relpath(path, folder)
            found.append((relative, status.st_size, status.st_mtime_ns))
    return sorted(found)

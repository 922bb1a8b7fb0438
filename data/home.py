"""Where the files of a training set are on the disk, and which of its names a path means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.dataset.spelling import composed
from data.dataset.walk import SEEDS

SEEDS_PREFIX = f"{SEEDS}/"


@dataclass(frozen=True)
class Home:
    """The folders of a training set's files, each of which holds the very pixels.

    Attributes:
        root: the data set's folder, to which names are relative.
        seeds: the folder of the verified images that were added; their names begin with `seeds/`,
            wherever it lies. None: no image was added.
    """

    root: Path
    seeds: Path | None = None

    def path(self, file: str) -> Path:
        """Return where the image `file` of a training set (`TrainingSet.files`) is."""
        added = self._added(file)
        return self.root / file if added is None else added

    def below(self, file: str) -> str | None:
        """Return the path of an image relative to `root`; None where it lies elsewhere."""
        added = self._added(file)
        if added is None:
            return file
        place = absolute(added)
        return place.removeprefix(self._root) if place.startswith(self._root) else None

    def name_of(self, path: str) -> str | None:
        """Return the name that a file at the absolute `path` has; None outside of the folders."""
        folders = [(self._root, "")]
        if self.seeds is not None:
            folders.insert(0, (absolute(self.seeds) + "/", SEEDS_PREFIX))
        for folder, prefix in folders:
            if path.startswith(composed(folder)):
                return prefix + path.removeprefix(composed(folder))
        return None

    @cached_property
    def _root(self) -> str:
        return absolute(self.root).rstrip("/") + "/"

    def _added(self, file: str) -> Path | None:
        if self.seeds is None or not file.startswith(SEEDS_PREFIX):
            return None
        return self.seeds / file.removeprefix(SEEDS_PREFIX)


def absolute(path: Path) -> str:
    """Return the whole path with slashes; links stay as they are, as other tools leave them."""
    return Path(os.path.abspath(path)).as_posix()

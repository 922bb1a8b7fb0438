"""The files of a data set's part, before they are decoded."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dataset.decode import Frame
from utils.errors import InputError

FORMAT = 2  # raised whenever the same files would give other pixels
# Unicode's categories of control characters and of what breaks a line or a paragraph.
BREAKING = ("Cc", "Zl", "Zp")


@dataclass(frozen=True)
class Listing:
    """The files of one split, in the order in which they become samples.

    Attributes:
        name: of the split; another name is another cache.
        root: the folder to which the paths are relative.
        files: paths, with slashes.
        labels: one for each file.

    Raises:
        InputError: a name would break the lines of the lists and tables that it goes into.
    """

    name: str
    root: Path
    files: Sequence[str]
    labels: Sequence[int]

    def __post_init__(self) -> None:
        refuse_breaking(self.files, self.root)

    def fingerprint(self, frame: Frame) -> str:
        """Return the SHA-256 of every file's name, size, time and label, and of the frame."""
        digest = hashlib.sha256(repr((FORMAT, frame)).encode())
        for file, label in zip(self.files, self.labels, strict=True):
            digest.update(repr((file, *self._state(file), label)).encode())
        return digest.hexdigest()

    def _state(self, file: str) -> tuple[int, int]:
        """Return size in bytes and time of the last change in nanoseconds."""
        try:
            found = os.stat(self.root / file)
        except OSError:  # a link to nowhere: unreadable, but a file of the set
            return -1, -1
        return found.st_size, found.st_mtime_ns


def refuse_breaking(files: Iterable[str], root: Path) -> None:
    """Raise `InputError` if a path holds a control character, such as a line break.

    A sample is known by its file's name in lists of one name a line (`purified.txt`, seeds) and on
    the screen: a name of two lines would be two samples, both of them somebody else's.
    """
    for file in files:
        if not file.isprintable() and any(unicodedata.category(c) in BREAKING for c in file):
            raise InputError(
                f"{str(root)!r}: the name {file!r} holds a control character (a line break, a tab, "
                f"an escape), so no list of names could name it; rename it"
            )

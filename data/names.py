"""Training samples by the names that people give them: files of the data set, or numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from data.poison import TrainingSet
from utils.errors import InputError, nearest

TRAIN_PREFIX = "train/"
MOST_HINTED = 5000  # names among which the nearest is looked for: that takes a while
RAW = re.compile("[\udc80-\udcff]")  # how Python keeps bytes of a name that are no text


def composed(name: str) -> str:
    """Return a file name in one spelling: some systems store an umlaut as a letter and a dot."""
    return unicodedata.normalize("NFC", name.strip()).removeprefix("./")


class Names:
    """Finds training samples by name.

    Args:
        training: the set that they belong to.
    """

    def __init__(self, training: TrainingSet) -> None:
        self.exact = training.places()
        self.alike: dict[str, int | None] = {}  # None: two samples are called so
        for name, index in self.exact.items():
            key = composed(name)
            self.alike[key] = None if key in self.alike else index
        self.raw = any(RAW.search(name) for name in training.files or ())

    def get(self, name: str) -> int | None:
        """Return the sample `name`, relative to the data set's folder or to its `train/`."""
        for candidate in (name, TRAIN_PREFIX + name):
            if candidate in self.exact:
                return self.exact[candidate]
        wanted = composed(name)
        for candidate in (wanted, TRAIN_PREFIX + wanted):
            found = self.alike.get(candidate)
            if found is not None:
                return found
        return None

    def find(self, name: str, where: str, doubt: str = "") -> int:
        """Return the sample `name`.

        Args:
            name: as a person gave it.
            where: file and line, for the error.
            doubt: what else may be wrong with the file.

        Raises:
            InputError: there is no such sample.
        """
        found = self.get(name)
        if found is None:
            shown = repr(name if len(name) <= 200 else f"{name[:200]}...")
            raise InputError(
                f"{where}: there is no training sample {shown}{self.hint(name)}{doubt}"
            )
        return found

    def hint(self, name: str) -> str:
        """Return the nearest name as a hint: of that file elsewhere, in that folder, else any."""
        wanted = composed(name)[-200:]
        for candidates in self._near(wanted):
            if candidates:
                found = nearest(wanted, candidates[:MOST_HINTED])
                return found if "did you mean" in found else ""
        return ""

    def _near(self, wanted: str) -> Iterator[list[str]]:
        """Yield lists of names, the likeliest first."""
        folder, _, base = wanted.rpartition("/")
        yield [other for other in self.exact if other.rpartition("/")[2] == base]
        yield [
            other for other in self.exact if folder and other.rpartition("/")[0].endswith(folder)
        ]
        yield list(self.exact)

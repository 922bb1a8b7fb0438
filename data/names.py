"""Training samples by the names that people give them: files of the data set, or numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from data.dataset.spelling import composed
from data.export import file_names
from data.poison import TrainingSet
from utils.errors import InputError, nearest

TRAIN_PREFIX = "train/"
DATA_FOLDER = "data"  # of an export in which all images lie side by side
MOST_HINTED = 5000  # names among which the nearest is looked for: that takes a while
LONGEST = 120  # characters of a name in an error
RAW = re.compile("[\udc80-\udcff]")  # how Python keeps bytes of a name that are no text


class Names:
    """Finds training samples by name.

    Args:
        training: the set that they belong to.
        left_out: files of that set which are no samples here; they count on from its last sample.
    """

    def __init__(self, training: TrainingSet, left_out: Sequence[str] = ()) -> None:
        self.training, self.left_out = training, left_out
        more = range(len(training), len(training) + len(left_out))
        self.exact = dict(zip(left_out, more, strict=True)) | training.places()
        self.alike: dict[str, int | None] = {}  # None: two samples are called so
        for name, index in self.exact.items():
            key = composed(name)
            self.alike[key] = None if key in self.alike else index
        self.raw = any(RAW.search(name) for name in (*(training.files or ()), *left_out))

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

    @cached_property
    def tails(self) -> dict[str, int | None]:
        """Samples by each end of their paths, with and without the ending; None where two share it.

        Of a set without files, the paths are those of `--export`.
        """
        found: dict[str, int | None] = {}
        files = self.training.files or file_names(self.training)
        for index, file in enumerate((*files, *self.left_out)):
            parts = composed(file).split("/")
            for start in range(len(parts)):
                tail = "/".join(parts[start:])
                for end in {tail, tail.rpartition(".")[0] or tail}:
                    found[end] = None if found.get(end, index) != index else index
        return found

    def by_path(self, path: str) -> int | None:
        """Return the sample at `path`, which another tool gave: of any folder above, or of none.

        A name alone counts where the tool keeps all images in one folder, `data`.
        """
        found = self.get(path)
        if found is not None:
            return found
        parts = composed(path).replace("\\", "/").split("/")
        for start in range(len(parts)):
            is_name_alone = start == len(parts) - 1
            if is_name_alone and len(parts) > 1 and parts[-2] != DATA_FOLDER:
                return None
            found = self.tails.get("/".join(parts[start:]))
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
            raise self.unknown(name, where, doubt)
        return found

    def unknown(self, name: str, where: str, doubt: str = "") -> InputError:
        """Return the error for a name that is no sample's."""
        shown = repr(name if len(name) <= LONGEST else f"{name[:LONGEST]}...")
        return InputError(f"{where}: there is no training sample {shown}{self.hint(name)}{doubt}")

    def hint(self, name: str) -> str:
        """Return the nearest name as a hint: of that file elsewhere, in that folder, else any."""
        wanted = composed(name)[-LONGEST:]
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

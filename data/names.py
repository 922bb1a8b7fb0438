"""Training samples by the names that people give them: files of the data set, or numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from data.dataset.spelling import composed
from data.dataset.walk import SEEDS, TEST, TRIGGERED
from data.export import file_names
from data.home import absolute
from data.poison import TrainingSet
from utils.errors import InputError, nearest

TRAIN_PREFIX = "train/"
SIBLINGS = (TEST, SEEDS, TRIGGERED)  # hold other images, in folders of the same classes
DATA_FOLDER = "data"  # of an export in which all images lie side by side
NUMBERED = re.compile(r"(.+)-\d+(\.[^.]*)?")  # the second of two images that are called alike there
MOST_HINTED = 5000  # names among which the nearest is looked for: that takes a while
LONGEST = 120  # characters of a name in an error
RAW = re.compile("[\udc80-\udcff]")  # how Python keeps bytes of a name that are no text


def paths_for_tools(training: TrainingSet) -> Sequence[str | None]:
    """Return the path of each sample below the folder that other tools are given.

    That is the data set's own folder; None where an image lies elsewhere. Where no file holds what
    the run has seen, it is the folder of `--export`.
    """
    if training.files is None or training.home is None:
        return file_names(training)
    return [training.home.below(file) for file in training.files]


def without_ending(file: str) -> str:
    """Return a path without the ending of its last part."""
    folder, slash, name = file.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder + slash + (stem if dot and stem else name)


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
    def ends(self) -> dict[str, int | None]:
        """Samples by their whole names, with and without the ending; None where two share one."""
        found: dict[str, int | None] = {}
        for index, name in self._whole_names():
            for end in {name, without_ending(name)}:
                found[end] = None if found.get(end, index) != index else index
        return found

    @cached_property
    def lone(self) -> dict[str, int | None]:
        """Samples by the last part of their names, as `ends`."""
        found: dict[str, int | None] = {}
        for end, index in self.ends.items():
            name = end.rpartition("/")[2]
            found[name] = None if found.get(name, index) != index else index
        return found

    def _whole_names(self) -> Iterator[tuple[int, str]]:
        """Yield each sample with each of its paths: those of its file, and those of other tools.

        Where the two differ, a name that means one sample here and another one there means none.
        """
        files = (*(self.training.files or ()), *self.left_out)
        for index, file in enumerate(files):
            yield index, composed(file)
        for index, path in enumerate(paths_for_tools(self.training)):
            if path is not None and path not in files[index : index + 1]:
                yield index, composed(path)

    @cached_property
    def _deepest(self) -> int:
        return 1 + max((end.count("/") for end in self.ends), default=0)

    def by_path(self, path: str) -> int | None:
        """Return the sample at `path`, which a person or another tool gave, or None.

        A name as it is wins. Below the real folders of the set, the rest has to be a name. Of any
        other path the end has to be a whole one, so that `test/cat/1.png` of the same set, or
        `cat/1.png` of another, is not taken for `train/cat/1.png`.
        """
        slashed = path.replace("\\", "/")
        for name in (path, slashed):
            found = self.get(name)
            if found is not None:
                return found
        whole, home = composed(slashed), self.training.home
        below = None if home is None else home.name_of(whole)
        return self._by_end(whole.split("/")) if below is None else self.ends.get(below)

    def _by_end(self, parts: list[str]) -> int | None:
        """Return the sample whose whole name stands at the end of a path, or which is told flat."""
        if TRAIN_PREFIX + "/".join(parts) in self.ends:
            return self.ends[TRAIN_PREFIX + "/".join(parts)]
        for start in range(max(0, len(parts) - self._deepest), len(parts)):
            end = "/".join(parts[start:])
            if end in self.ends:
                return self.ends[end] if self._may_follow(parts[:start], parts[start]) else None
        is_flat = len(parts) == 2 and parts[0] == DATA_FOLDER
        return self._flat(parts[1]) if is_flat else None

    def _may_follow(self, above: list[str], first: str) -> bool:
        """Return whether a name that begins with the folder `first` is meant below `above`.

        `train/` tells enough of a name. Class folders that lie in the data set's folder itself are
        called as those of any set, and as those of `seeds/` beside them: that folder's own name
        has to stand before them.
        """
        if not any(above) or f"{first}/" == TRAIN_PREFIX or first not in self._classes:
            return True
        home = self.training.home
        called = None if home is None else composed(Path(absolute(home.root)).name)
        return above[-1] == called and called not in SIBLINGS

    def _flat(self, name: str) -> int | None:
        """Return the sample `name` of an export's one folder, which numbers those called alike."""
        numbered = NUMBERED.fullmatch(name)
        if numbered and numbered[1] + (numbered[2] or "") in self.lone:
            return None
        return self.lone.get(name)

    @cached_property
    def _classes(self) -> frozenset[str]:
        return frozenset(map(composed, self.training.classes))

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

    def find_path(self, path: str, where: str, doubt: str = "") -> int:
        """Return the sample at `path`, which may begin above the data set's folder.

        Raises:
            InputError: there is no such sample, or the path may mean another one.
        """
        found = self.by_path(path)
        if found is None:
            raise self.unknown(path, where, doubt)
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

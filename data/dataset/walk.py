"""Which files below a folder of classes are samples, and what is said of those that are not."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data.dataset.listing import Listing
from data.dataset.picture import ENDINGS, is_picture
from data.dataset.remarks import describe_left_out, ending
from utils.errors import InputError

TRAIN, TEST, SEEDS = "train", "test", "seeds"
TRIGGERED = "triggered"  # beside them: the test images that ASR is measured on
CLASSES = "classes.txt"  # of an exported set: its class folders, in the order of their labels
OF_ARCHIVES = "__MACOSX"  # a folder in archives of a Mac, with what it knows of the files


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted; links and hidden ones are left out."""
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(name for name in found if not name.startswith(".") and name != OF_ARCHIVES)


class Survey:
    """Lists the image files of both splits, and notes what it leaves out.

    Args:
        root: the data set's folder.
        folders: label of each class folder.
        chosen: whether the user's own list chose the classes, so that others may lie beside them.
    """

    def __init__(self, root: Path, folders: dict[str, int], chosen: bool) -> None:
        self.root, self.folders, self.chosen = root, folders, chosen
        self.remarks: list[str] = []  # what else is left out
        self.left_out: Counter[str] = Counter()  # files that are no images, by their ending

    def lines(self) -> list[str]:
        """Return what was left out of the listings so far, to be said."""
        return self.remarks + describe_left_out(self.left_out)

    def listing(self, name: str, folder: Path | None) -> Listing:
        """Return the files of the split `name` below `folder`, by class and name.

        Raises:
            InputError: a folder belongs to no class, and no list of the user's leaves it out.
        """
        # Another choice of classes is another cache, so that two experiments can take turns.
        key = repr((name, list(self.folders)))
        if folder is None:
            return Listing(key, self.root, [], [])
        present = set(subfolders(folder))
        self._judge_strange(name, folder, present)
        files: list[str] = []
        labels: list[int] = []
        beside = os.listdir(folder)
        self._note_links(folder, beside)
        self._note_loose(folder, beside)
        for class_name, label in self.folders.items():
            found = sorted(self._images(folder / class_name)) if class_name in present else []
            files += found
            labels += [label] * len(found)
        return Listing(key, self.root, files, labels)

    def _judge_strange(self, name: str, folder: Path, present: set[str]) -> None:
        """Note the folders of no class, which the user's list leaves out, or refuse them."""
        # Where the class folders lie in the data set's folder itself, this one lies beside them.
        beside = {TRIGGERED} if folder == self.root else set[str]()
        strange = sorted(present - set(self.folders) - beside)
        if strange and not self.chosen:
            raise InputError(
                f"dataset_dir: {folder / strange[0]} belongs to no class of "
                f"{CLASSES if name == TRAIN else f'{TRAIN}/'}; remove it, or list the classes in a "
                f"file and name that in data.classes"
            )
        if strange:
            self.remarks.append(
                f"{folder} holds {len(strange)} folders of no class in the list, which are left "
                f"out: {strange[0]!r}"
            )

    def _images(self, folder: Path) -> Iterator[str]:
        """Yield the image files below `folder`, relative to the root; no link to a folder."""
        for place, directories, names in os.walk(folder, onerror=throw):
            self._note_links(Path(place), directories)
            directories[:] = [name for name in directories if not name.startswith(".")]
            for path in (Path(place, name) for name in names if not name.startswith(".")):
                if is_picture(path):
                    yield path.relative_to(self.root).as_posix()
                else:
                    self.left_out[ending(path)] += 1

    def _note_loose(self, folder: Path, names: list[str]) -> None:
        """Count the pictures that lie beside the class folders, where their class is not known."""
        loose = [name for name in names if is_loose(name) and (folder / name).is_file()]
        if loose:
            self.remarks.append(
                f"{folder} holds {len(loose)} pictures outside of its class folders, which are "
                f"left out: {min(loose)!r}"
            )

    def _note_links(self, folder: Path, names: list[str]) -> None:
        for name in sorted(names):
            path = folder / name
            if stat.S_ISLNK(path.lstat().st_mode) and path.is_dir():
                self.remarks.append(f"{path} is a link to a folder and is left out")


def is_loose(name: str) -> bool:
    """Return whether a file beside the class folders is called as a picture is."""
    return not name.startswith(".") and Path(name).suffix.lower() in ENDINGS


def throw(error: OSError) -> None:
    """Raise an error that `os.walk` would pass over, with all images of the folder."""
    raise error

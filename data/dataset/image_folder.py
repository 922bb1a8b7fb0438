"""Anybody's own images: `train/<class>/*` and `test/<class>/*`, of any size, format and mode."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch

from data.dataset.cache import decode_once
from data.dataset.headers import median_side
from data.dataset.listing import refuse_breaking
from data.dataset.remarks import describe_same, describe_test, judge_unreadable
from data.dataset.settings import DataSection
from data.dataset.source import ImageData, Outline, Request, Source
from data.dataset.spelling import composed, look_alike
from data.dataset.walk import CLASSES, SEEDS, TEST, TRAIN, TRIGGERED, Survey, subfolders
from utils.errors import InputError, nearest
from utils.files import find_file
from utils.paths import user_path
from utils.texts import read_text

PARTS = (TRAIN, TEST, SEEDS)  # folders of the data set that are no classes


class ImageFolder(Source):
    """One folder a class below `train/` and `test/`; without `train/`, all is for training.

    Without `test/` there is nothing to measure: the test set is empty.
    """

    known_to_be_clean: ClassVar[bool] = False
    takes_verified_images: ClassVar[bool] = True
    settings_read: ClassVar[frozenset[str]] = frozenset(
        {"image_size", "resize", "classes", "skip_unreadable", "cache_dir", "truth"}
    )

    def load(self, request: Request) -> ImageData:
        """Return the images, decoded now or earlier."""
        settings = request.settings
        root = existing_folder(request.folder)
        train_folder, test_folder = find_splits(root)
        with readable_folders():
            chosen = class_list(root, settings)
            folders = class_folders(train_folder, chosen)
            survey = Survey(root, folders, settings.classes is not None)
            listings = [survey.listing(TRAIN, train_folder), survey.listing(TEST, test_folder)]
        frame = settings.frame
        (train, train_part), (test, test_part) = (
            decode_once(listing, frame, request.cache) for listing in listings
        )
        parts = [train_part, test_part]
        notices = look_alike(folders) + survey.lines()
        notices += judge_unreadable(parts, settings.skip_unreadable, request.cache)
        refuse_empty(train.labels.tolist(), folders, train_folder)
        notices += describe_test(test, folders)
        notices += describe_same(train_part, test_part)
        left_out = tuple(file for file, _ in train_part.unreadable)
        return ImageData(train, test, tuple(folders), tuple(notices), frame, root, left_out)

    def outline(self, request: Request) -> Outline:
        """Return labels and size of the training images, of which the headers of some are read.

        Raises:
            InputError: there are none of some class.
        """
        root = existing_folder(request.folder)
        train_folder, _ = find_splits(root)
        with readable_folders():
            chosen = class_list(root, request.settings)
            folders = class_folders(train_folder, chosen)
            survey = Survey(root, folders, request.settings.classes is not None)
            listing = survey.listing(TRAIN, train_folder)
        refuse_empty(listing.labels, folders, train_folder)
        paths = [listing.root / file for file in listing.files]
        return Outline(torch.tensor(listing.labels), median_side(paths))

    @classmethod
    def training_folder(cls, root: Path) -> Path:
        """Return the folder that holds the class folders of the set in `root`."""
        return find_splits(root)[0]

    @classmethod
    def folders_of_classes(cls, root: Path) -> list[Path]:
        """Return where each folder is a class of the set in `root`, whether it exists or not."""
        train_folder = cls.training_folder(root)
        if train_folder == root:
            return [root]
        return [train_folder, *(root / name for name in (TEST, SEEDS, TRIGGERED))]

    @classmethod
    def chosen_classes(cls, root: Path, settings: DataSection) -> frozenset[str] | None:
        """Return the classes that the user's own list chooses; None: all folders are classes."""
        if settings.classes is None:
            return None
        with readable_folders():
            return frozenset(class_folders(cls.training_folder(root), settings.classes))


@contextmanager
def readable_folders() -> Iterator[None]:
    """Turn the failure to read a folder into an `InputError` that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"dataset_dir: {error.filename} cannot be read ({error.strerror})"
        ) from error


def existing_folder(folder: str | None) -> Path:
    """Return `dataset_dir`.

    Raises:
        InputError: it is not given or not there.
    """
    layout = "name the folder that holds train/<class>/ and test/<class>/"
    if folder is None:
        raise InputError(f"dataset_dir: missing; {layout}")
    path = user_path(folder, "dataset_dir")
    if not path.is_dir():
        raise InputError(f"dataset_dir: there is no folder {path}; {layout}")
    return path


def find_splits(root: Path) -> tuple[Path, Path | None]:
    """Return the folders of the training and of the test images; None without test images.

    Raises:
        InputError: a folder might be a class, or the wrong half of the data, by its name.
    """
    with readable_folders():
        names = subfolders(root)
    if TRAIN in names or (root / TRAIN).is_dir():
        odd = [name for name in names if name not in PARTS and name.casefold() in PARTS]
        if odd:
            raise InputError(
                f"dataset_dir: {root / odd[0]}: call it {odd[0].casefold()}, in small letters"
            )
        return root / TRAIN, root / TEST if (root / TEST).is_dir() else None
    for name in names:
        if name == TEST or (name.casefold() in PARTS and holds_classes(root / name, names)):
            raise InputError(
                f"dataset_dir: {root} has {name}/ and no {TRAIN}/; put the training images, one "
                f"folder a class, below {TRAIN}/"
            )
    return root, None


def holds_classes(folder: Path, beside: Sequence[str]) -> bool:
    """Return whether a folder holds class folders: it is a part of the data, whatever its name.

    Args:
        folder: in question.
        beside: the names of the folders that lie where it does.
    """
    with readable_folders():
        inside = subfolders(folder)
    return bool(inside) and (folder.name.casefold() != SEEDS or bool(set(inside) & set(beside)))


def class_list(root: Path, settings: DataSection) -> str | None:
    """Return the file that names the classes: `data.classes`, or the one that an export has.

    That one lies beside the table, or stays in the data set's folder where the table is elsewhere.

    Raises:
        InputError: there is no table.
    """
    if settings.classes is not None or settings.truth is None:
        return settings.classes
    beside = (truth_file(root, settings.truth).parent, root)
    exported = (folder / CLASSES for folder in beside)
    return next((str(file.resolve()) for file in exported if file.is_file()), None)


def truth_file(root: Path, truth: str) -> Path:
    """Return the table that `data.truth` names: below the data set's folder, or anywhere.

    Raises:
        InputError: there is no such file.
    """
    file = root / truth
    return file if file.is_file() else find_file(truth, "data.truth")


def class_folders(folder: Path, list_path: str | None) -> dict[str, int]:
    """Return the label of each class: all folders by name, or those of a list in its order.

    Raises:
        InputError: fewer than two classes, or the list does not fit the folders.
    """
    names = subfolders(folder)
    if list_path is not None:
        names = listed_classes(find_file(list_path, "data.classes"), names, folder)
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise InputError(
            f"dataset_dir: {folder} must hold a folder for each of two classes or more, {found} "
            f"is there (links to folders are not followed)"
        )
    refuse_breaking(names, folder)
    refuse_same_spelling(names, folder)
    return {name: label for label, name in enumerate(names)}


def refuse_same_spelling(names: Sequence[str], folder: Path) -> None:
    """Raise `InputError` if two class folders have the same name but for the spelling.

    Some systems store an umlaut as one letter, others as a letter and a dot, and a blank at an end
    is not seen. No list of verified samples could tell such classes apart.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(composed(name), name)
        if other != name:
            raise InputError(
                f"dataset_dir: {folder} holds two folders called {composed(name)!r} but for blanks "
                f"or composed letters, {other!a} and {name!a}; put their images into one, or "
                f"rename it"
            )


def listed_classes(file: Path, present: list[str], folder: Path) -> list[str]:
    """Return the folder names in a file: one a line; `#` at its start or after a blank comments.

    Raises:
        InputError: the file is not text, names a class twice, or one without a folder.
    """
    key = f"data.classes: {file}"
    lines = read_text(file, "data.classes").lines
    # Some systems store an umlaut as a letter and a dot: names are compared composed.
    folders = {unicodedata.normalize("NFC", name): name for name in present}
    names = []
    for line in lines:
        name = unicodedata.normalize("NFC", re.sub(r"(^|\s)#.*", "", line).strip())
        if name and name not in folders:
            raise InputError(f"{key}: there is no folder {name!r} in {folder}{near(name, folders)}")
        if name:
            names.append(folders[name])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{key}: {twice!r} is named twice")
    return names


def near(name: str, folders: dict[str, str]) -> str:
    """Return a hint at the folder nearest to `name`; a thousand others are not listed."""
    hint = nearest(name, folders)
    return hint if "did you mean" in hint else ""


def refuse_empty(labels: Sequence[int], folders: dict[str, int], folder: Path) -> None:
    """Raise `InputError` if a class has no training image; `labels` are those of all."""
    present = set(labels)
    empty = [name for name, label in folders.items() if label not in present]
    if empty:
        names = ", ".join(repr(name) for name in empty[:3]) + (", ..." if len(empty) > 3 else "")
        raise InputError(
            f"dataset_dir: {len(empty)} of {len(folders)} classes have no readable image in "
            f"{folder}: {names}; add some, or remove the folder"
        )

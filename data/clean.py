"""The part of a training set that a run's report keeps, as files in class folders.

`--export-clean` reads `purified.txt`, where a line is the path of a training image below the data
set's folder, or its number where images are not files of their own.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import torch

from data.dataset.picture import UnreadableImage
from data.dataset.spelling import composed
from data.dataset.walk import SEEDS, TRAIN
from data.export import THREADS, all_or_nothing, file_names, folder_names, write_images
from data.imagefolder import (
    apart,
    count_classes,
    ending_of_content,
    places,
    write_as_png,
    write_card,
)
from data.poison import TrainingSet
from data.review import Review
from utils.console import progress
from utils.errors import InputError
from utils.files import read_regular
from utils.texts import MOST_BYTES

Locate = Callable[[str], Path]
FOLDERS, IMAGEFOLDER = "folders", "imagefolder"
LAYOUTS = (FOLDERS, IMAGEFOLDER)
MOST_NAMED = 10  # classes in a line


def read_kept(path: Path, training: TrainingSet, remedy: str) -> list[int]:
    """Return the samples that `purified.txt` lists, in its order.

    Args:
        path: of the file.
        training: the set that it is about.
        remedy: the command that writes it.

    Raises:
        InputError: it is missing, empty, or names a sample twice or one that does not exist.
    """
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputError(
            f"--export-clean: {path} cannot be read ({error.strerror}); {remedy} writes it"
        ) from error
    places = training.places()
    kept: dict[int, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        if line not in places or places[line] in kept:
            why = "is listed twice" if line in places else "is no training image"
            raise InputError(f"{path}, line {number}: {line!r} {why}; {remedy} writes the list")
        kept[places[line]] = None
    if not kept:
        raise InputError(f"--export-clean: {path} keeps no image; there is nothing to copy")
    return list(kept)


def reviewed(kept: Sequence[int], review: Review) -> tuple[list[int], list[str]]:
    """Return the samples to keep by a person's word, which the report may not have known.

    Raises:
        InputError: none is left.
    """
    rejected = set(review.rejected.tolist())
    left = [index for index in kept if index not in rejected]
    more = sorted(set(review.accepted.tolist()) - set(left))
    if not left and not more:
        raise InputError("--export-clean: the review calls all images poisoned that are kept")
    if len(left) == len(kept) and not more:
        return left, []
    line = f"by the review {len(kept) - len(left)} images are left out, and {len(more)} added"
    return [*left, *more], [line]


def write_clean(
    training: TrainingSet,
    kept: Sequence[int],
    folder: Path,
    locate: Locate | None,
    layout: str = FOLDERS,
) -> list[str]:
    """Fill `folder`, which is empty, with `<class>/...`, or leave it so; return lines to say.

    Args:
        training: as the run saw it.
        kept: the samples to write.
        folder: to be filled.
        locate: tells where a training file is, to copy the very files; None: PNG files are made.
        layout: one of `LAYOUTS`.

    Raises:
        TrainingError: a file cannot be read or written; nothing is left in `folder`.
    """
    paths = clean_paths(training, kept, locate is None)
    emptied = classes_without(training, kept)
    made = set[int]()
    with all_or_nothing(folder, "--export-clean") as below:
        if layout == IMAGEFOLDER:
            paths, made = places(
                paths, lambda number: ending_of_kept(training, kept[number], locate)
            )
            folders = class_folders(training, locate is None)
            gone = [folders[label] for label in emptied]
            write_card(below, len(kept), len(training), folders, gone)
        if locate is None:
            images = [training.images[index] for index in kept]  # views, for the memory's sake
            write_images(images, [below / path for path in paths])
        else:
            copy_files([locate(training.name(index)) for index in kept], paths, below, made)
    how = "written as PNG files" if locate is None else "copied"
    classes = count_classes(training.num_classes - len(emptied))
    line = f"{len(kept)} of {len(training)} images, of {classes}, {how} to {folder}"
    if made:
        line += f"; {len(made)} of them were written as PNG, since the loader knows no such files"
    return [line, *describe_emptied([training.classes[label] for label in emptied])]


def classes_without(training: TrainingSet, kept: Sequence[int]) -> list[int]:
    """Return the labels of which no sample is kept, sorted."""
    left = set(training.labels[torch.tensor(kept, dtype=torch.int64)].tolist())
    return [label for label in range(training.num_classes) if label not in left]


def describe_emptied(names: Sequence[str]) -> list[str]:
    """Return a line where classes are left without an image."""
    if not names:
        return []
    shown = ", ".join(map(repr, names[:MOST_NAMED])) + (", ..." if names[MOST_NAMED:] else "")
    return [f"no image is kept of {count_classes(len(names))}: {shown}"]


def class_folders(training: TrainingSet, as_pngs: bool) -> list[str]:
    """Return the folder of each class, in the order of the labels."""
    first: dict[int, int] = {}
    for index, label in enumerate(training.labels.tolist()):
        first.setdefault(label, index)
    found = dict(zip(first, clean_paths(training, list(first.values()), as_pngs), strict=True))
    return [
        found[label].parts[0] if label in found else name
        for label, name in enumerate(folder_names(training.classes))
    ]


def clean_paths(training: TrainingSet, kept: Sequence[int], as_pngs: bool) -> list[Path]:
    """Return `<class>/...` for the kept samples.

    What is below a class's folder stays as it is, so that two files of one name stay two.
    """
    if as_pngs or training.files is None:
        names = file_names(training)
        return [Path(names[index]).relative_to(TRAIN) for index in kept]
    safe = folder_names(training.classes)
    labels = training.labels.tolist()
    return apart(
        place_in_class(training.files[i], training.classes[labels[i]], safe[labels[i]])
        for i in kept
    )


def ending_of_kept(training: TrainingSet, index: int, locate: Locate | None) -> str | None:
    """Return the ending for what the file of a sample holds; None where that does not tell."""
    return ".png" if locate is None else ending_of_content(locate(training.name(index)))


def copy_files(
    files: Sequence[Path], paths: Sequence[Path], folder: Path, made: Collection[int] = ()
) -> None:
    """Copy `files` to `paths` below `folder`, several at a time; those in `made` become PNG.

    Raises:
        UnreadableImage: a file that shall become PNG holds no picture any more.
    """
    for place in {path.parent for path in paths}:
        (folder / place).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        source, target = files[number], folder / paths[number]
        if number not in made:
            shutil.copy2(source, target)
            return
        try:
            write_as_png(source, target)
        except UnreadableImage as error:
            raise UnreadableImage(f"{source}: {error}") from error

    with ThreadPoolExecutor(THREADS) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large and of oddly written files
        written = pool.map(write, range(len(files)))
        for _ in progress(written, "copy", unit="image", total=len(files)):
            pass


def place_in_class(file: str, name: str, folder_name: str) -> Path:
    """Return `<class>/...` for a training file.

    Args:
        file: path below the data set's folder.
        name: of the class.
        folder_name: a folder for it, should the file not be in one that is called as the class.
    """
    parts = PurePosixPath(file).parts
    # A verified image that was added to the others; its folder may be spelt as a Mac does.
    if parts[0] == SEEDS and composed(parts[1]) == composed(name):
        return Path(name, SEEDS, *parts[2:])
    if parts[0] == TRAIN:
        parts = parts[1:]
    if parts[0] == name and len(parts) > 1:
        return Path(*parts)
    return Path(folder_name, parts[-1])

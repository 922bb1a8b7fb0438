"""A poisoned set that was made elsewhere, with the truth about it: `data.truth` names a table.

The layout is that of `--export`: `train/<class>/*`, `test/<class>/*` for ACC, and for ASR
`triggered/<class>/*`, the class being the one that the attacker wants. The table is of the training
images: `file` and `kind` (clean, poisoned or cross), and `original_label` where it was changed.
The table's order is that of the samples, so that an exported set is trained on as it was before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.dataset import ImageData, Split
from data.dataset.cache import decode_once
from data.dataset.image_folder import readable_folders, truth_file
from data.dataset.remarks import describe_left_out, judge_unreadable
from data.dataset.spelling import composed
from data.dataset.walk import TRIGGERED, Survey, subfolders
from data.names import Names
from data.poison import Role, TrainingSet, Truth, as_defended
from data.settings import DataSettings
from data.transform.build import before_trigger
from utils.errors import InputError, nearest
from utils.tables import Row, read_table
from utils.texts import Text, read_text

KEY = "data.truth"
KINDS = {role.name.lower(): role for role in Role}
COLUMNS = ("file", "kind")


@dataclass(frozen=True)
class Poisoned:
    """A set with the truth about it, wherever it was poisoned.

    Attributes:
        data: as it was read; of an imported set, in the order of the table.
        training, truth: what the defender sees, and what is true.
        lines: to say.
    """

    data: ImageData
    training: TrainingSet
    truth: Truth
    lines: tuple[str, ...]


def import_truth(config: DataSettings, data: ImageData, cache: Path) -> Poisoned:
    """Return the set with the truth that `data.truth` tells.

    Raises:
        InputError: the table does not fit the images.
    """
    assert config.data.truth is not None
    assert data.root is not None
    file = truth_file(data.root, config.data.truth)
    text = read_text(file, KEY)
    rows, order, left_out = readable_rows(read_table(text, COLUMNS).rows, data, text)
    train = data.train.picked(order)
    roles = torch.tensor([kind_of(row, text) for row in rows], dtype=torch.uint8)
    original = original_labels(rows, train.labels, data.classes, text)
    triggered, lines = read_triggered(config, data, cache)
    data = replace(data, train=train, test=by_number(data.test))
    training = as_defended(data)
    poisoned = int((roles == Role.POISONED).sum())
    lines = [
        f"{file}: {poisoned} of {len(rows)} training samples are poisoned",
        *left_out,
        *lines,
    ]
    return Poisoned(data, training, Truth(roles, original, data.test, triggered), tuple(lines))


def readable_rows(
    rows: Sequence[Row], data: ImageData, text: Text
) -> tuple[list[Row], Tensor, list[str]]:
    """Return the rows of images that are there, their places, and a line about the other ones.

    Raises:
        InputError: a row's image is not there or is named twice, or an image has no row.
    """
    train = data.train
    places = places_of(rows, Names(as_defended(data), data.left_out), text)
    found = [row for row, place in zip(rows, places, strict=True) if place < len(train)]
    refuse_missing(places, train, text)
    order = torch.tensor([place for place in places if place < len(train)], dtype=torch.int64)
    count = len(rows) - len(found)
    if not count:
        return found, order, []
    line = f"{KEY}: {count} of {len(rows)} rows are of images that cannot be read"
    return found, order, [line]


def places_of(rows: Sequence[Row], names: Names, text: Text) -> list[int]:
    """Return where the table's samples are among the images; those left out come behind the last.

    Raises:
        InputError: one is not there, or is named twice.
    """
    lines: dict[int, int] = {}  # place -> line that names it
    for row in rows:
        name = row.cells["file"]
        place = names.get(name)
        if place is None:
            raise InputError(f"{text.line(row.line)}: there is no training image {name!r}")
        if place in lines:
            first = lines[place]
            raise InputError(f"{text.line(row.line)}: {name!r} is in line {first} already")
        lines[place] = row.line
    return list(lines)


def refuse_missing(places: Collection[int], train: Split, text: Text) -> None:
    """Raise `InputError` if an image of `train` has no row."""
    assert train.files is not None
    missing = sorted(set(range(len(train))) - set(places))
    if missing:
        raise InputError(
            f"{text.where}: {len(missing)} of {len(train)} training images have no row, "
            f"{train.files[missing[0]]!r} among them; nothing may be left open"
        )


def kind_of(row: Row, text: Text) -> Role:
    """Return what was made of a sample."""
    kind = row.cells["kind"].strip().lower()
    if kind not in KINDS:
        raise InputError(f"{text.line(row.line)}: no kind is called {kind!r}{nearest(kind, KINDS)}")
    return KINDS[kind]


def original_labels(
    rows: Sequence[Row], given: Tensor, classes: Sequence[str], text: Text
) -> Tensor:
    """Return the labels that the samples had, (N,) int64; the given ones where nothing is said.

    Raises:
        InputError: a name is no class, or the table's given label is not the image's folder.
    """
    labels = {composed(name): label for label, name in enumerate(classes)}
    found = given.tolist()
    for place, row in enumerate(rows):
        for column in ("given_label", "original_label"):
            name = composed(row.cells.get(column, "").strip())
            if name and name not in labels:
                hint = nearest(name, classes)
                raise InputError(f"{text.line(row.line)}: there is no class {name!r}{hint}")
            if name and column == "given_label" and labels[name] != found[place]:
                raise InputError(
                    f"{text.line(row.line)}: given_label is {name!r}, but the image lies in "
                    f"another class's folder"
                )
            if name and column == "original_label":
                found[place] = labels[name]
    return torch.tensor(found, dtype=torch.int64)


def read_triggered(
    config: DataSettings, data: ImageData, cache: Path
) -> tuple[Split | None, list[str]]:
    """Return the triggered test images, labelled with what the attacker wants, and lines to say."""
    assert data.root is not None
    folder = data.root / TRIGGERED
    if not folder.is_dir():
        return None, [f"there is no folder {folder}: ASR is not measured"]
    with readable_folders():
        folders = {name: label for label, name in enumerate(data.classes)}
        survey = Survey(data.root, folders, chosen=config.data.classes is not None)
        listing = survey.listing(TRIGGERED, folder)
        present = [folders[name] for name in subfolders(folder) if name in folders]
    split, part = decode_once(listing, config.data.frame, cache)
    lines = survey.remarks + [f"{folder}: {line}" for line in describe_left_out(survey.left_out)]
    lines += judge_unreadable([part], config.data.skip_unreadable, cache)
    if not len(split):
        return None, [*lines, f"there is no triggered image in {folder}: ASR is not measured"]
    lines += describe_empty(present, part.labels, data.classes, folder)
    return by_number(before_trigger(split, config.transform)), lines


def describe_empty(
    present: Sequence[int], labels: Sequence[int], classes: Sequence[str], folder: Path
) -> list[str]:
    """Return a line where class folders of triggered images are empty.

    Args:
        present: labels of the folders that are there.
        labels: of all images in them.
        classes: names.
        folder: that holds them.
    """
    empty = sorted(set(present) - set(labels))
    if not empty:
        return []
    return [
        f"{len(empty)} class folders in {folder} hold no readable image, "
        f"{classes[empty[0]]!r} among them: ASR is measured without them"
    ]


def by_number(split: Split) -> Split:
    """Return the images in the order of their files' names, whatever class they are of."""
    if not len(split) or split.files is None:
        return split
    names = [(Path(file).name, file) for file in split.files]
    order = sorted(range(len(names)), key=names.__getitem__)
    return split.picked(torch.tensor(order))

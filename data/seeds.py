"""The verified clean samples from which stage 1 starts: drawn, or listed in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.dataset.spelling import composed
from data.names import Names
from data.poison import TrainingSet
from data.settings import SeedsSection
from utils.arrays import read_npy
from utils.errors import InputError, nearest
from utils.files import find_file
from utils.streams import Streams
from utils.tables import Cells, column_names, find_separator, records
from utils.texts import Text, read_text

KEY = "global.seed_indices"
MOST_DRAWN = 10  # a class, where `global.seed_num` is left open; so many has the paper
TABLES = (".csv", ".tsv")
COLUMNS = ("file", "label")


def verified_seeds(
    schedule: SeedsSection, training: TrainingSet, clean: Tensor, streams: Streams
) -> Tensor:
    """Return the verified samples, as sorted indices: those of a file, or drawn as in the paper.

    None at all where witnesses shall choose them.
    """
    if schedule.chosen:
        return torch.empty(0, dtype=torch.int64)
    if schedule.seed_indices is not None:
        least = 1 if schedule.seed_num == "auto" else schedule.seed_num
        return read_seeds(schedule.seed_indices, training, least)
    return draw_seeds(training, clean, number_to_draw(schedule, training, clean), streams)


def number_to_draw(
    schedule: SeedsSection, training: TrainingSet, clean: Tensor | None = None
) -> int:
    """Return `seed_num`; where that is left open, ten a class, and at most half of the smallest.

    Args:
        schedule: that says so.
        training: the set.
        clean: (N,) bool, samples that may be drawn; None: all.
    """
    if schedule.seed_num != "auto":
        return schedule.seed_num
    labels = training.labels if clean is None else training.labels[clean]
    smallest = int(torch.bincount(labels, minlength=training.num_classes).min())
    return max(1, min(MOST_DRAWN, smallest // 2))


def draw_seeds(training: TrainingSet, clean: Tensor, count: int, streams: Streams) -> Tensor:
    """Return `count` truly clean samples of each class, as indices (C * count,), sorted.

    This stands for a person who checks samples by hand, as in the paper, and is all of the truth
    (`clean`, (N,) bool) that reaches a defence.

    Raises:
        InputError: a class has fewer clean samples.
    """
    generator = streams.torch("seeds")
    chosen = []
    for label, name in enumerate(training.classes):
        candidates = torch.nonzero((training.labels == label) & clean).flatten()
        refuse_too_few(len(candidates), count, name, "" if bool(clean.all()) else "clean ")
        order = torch.randperm(len(candidates), generator=generator)
        chosen.append(candidates[order[:count]])
    return torch.cat(chosen).sort().values


def refuse_too_few(found: int, count: int, name: str, kind: str = "") -> None:
    """Raise `InputError` if the class `name` has fewer than `count` samples, `found`, of a kind."""
    if found < count:
        raise InputError(
            f"global.seed_num: {count} asked for, but class {name!r} has {found} {kind}samples"
        )


def read_seeds(path: str, training: TrainingSet, count: int) -> Tensor:
    """Return the verified samples that a file lists, as indices, sorted.

    Args:
        path: `.npy` with integers; a text file with 0-based sample numbers, one a line or separated
            by commas; a text file with one file name a line; or a CSV with the columns `file` and,
            if one likes, `label`. `#` starts a comment: of file names, at a line's start.
        training: the set that they belong to.
        count: how many each class must have at least.

    Raises:
        InputError: unreadable, empty, of no sample, listed twice, of another label than the
            folder's, or too few of a class.
    """
    file = find_file(path, KEY)
    where = f"{KEY}: {file}"
    if file.suffix == ".npy":
        indices = checked_numbers(read_array(file), len(training), where)
    else:
        names = Names(training)
        text = read_text(file, KEY, names.raw)
        if training.files is not None and holds_names(text):
            indices = find_samples(read_entries(file, text, names), training, names, text)
        else:
            indices = checked_numbers(read_numbers(text), len(training), where)
    if not len(indices):
        raise InputError(f"{where} lists no sample")
    refuse_few(indices, training, count, where)
    return indices.sort().values


def refuse_few(indices: Tensor, training: TrainingSet, count: int, where: str) -> None:
    """Raise `InputError` if a class has fewer than `count` of the samples `indices`."""
    found = torch.bincount(training.labels[indices], minlength=training.num_classes)
    if int(found.min()) < count:
        name = training.classes[int(found.argmin())]
        raise InputError(
            f"{where} has {int(found.min())} samples of class {name!r}, "
            f"global.seed_num wants {count}"
        )


# ------------------------------------------------------------------------------- sample numbers


def words_of(line: str) -> list[str]:
    """Return what stands between blanks, commas and semicolons, without comments."""
    return line.partition("#")[0].replace(",", " ").replace(";", " ").split()


def holds_names(text: Text) -> bool:
    """Return whether a file lists names: its first line that is no comment is not all numbers."""
    first = next((words for line in text.lines if (words := words_of(line))), [])
    return not all(word.lstrip("-").isdecimal() for word in first)


def read_numbers(text: Text) -> list[int]:
    """Return the integers in a text.

    Raises:
        InputError: something is none.
    """
    found: list[int] = []
    for number, line in enumerate(text.lines, 1):
        try:
            found += [int(word) for word in words_of(line)]
        except ValueError as error:
            shown = str(error)[:100]
            raise InputError(
                f"{text.line(number)}: cannot be read as sample numbers ({shown})"
            ) from error
    return found


def read_array(file: Path) -> list[int]:
    """Return the integers in a `.npy`; nothing is executed, and no more is read than is there.

    Raises:
        InputError: it holds something else.
    """
    where = f"{KEY}: {file} cannot be read as sample numbers"
    array = read_npy(file, where)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{where} (it holds {array.dtype}, not integers)")
    numbers: list[int] = array.ravel().tolist()
    return numbers


def checked_numbers(numbers: Sequence[int], count: int, where: str) -> Tensor:
    """Return sample numbers as (n,) int64.

    Raises:
        InputError: one is out of range or given twice.
    """
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong:
        shown = str(wrong[0]) if abs(wrong[0]) < 10**15 else "of more than 15 digits"
        raise InputError(f"{where} names sample {shown}, there are 0 to {count - 1}")
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{where} names a sample twice")
    return torch.tensor(list(numbers), dtype=torch.int64)


# ----------------------------------------------------------------------------------- file names


@dataclass(frozen=True)
class Entry:
    """A line of a file of names.

    Attributes:
        line: its number, from 1.
        name: of an image file, relative to the data set's folder or to its `train/`.
        label: the class that a person saw; None where the file does not say.
    """

    line: int
    name: str
    label: str | None = None


def is_header(cells: Cells) -> bool:
    """Return whether the cells name the columns of a list, and nothing else."""
    names = column_names(cells)
    return "file" in names and set(names) <= set(COLUMNS)


def read_entries(file: Path, text: Text, names: Names) -> list[Entry]:
    """Return the names in a CSV (by its ending or its header), or one a line."""
    lines = [(number, line.strip()) for number, line in enumerate(text.lines, 1)]
    lines = [(number, line) for number, line in lines if line and line[0] != "#"]
    separated = text.separator is not None
    first = lines[0][1] if lines else ""
    if separated or file.suffix.lower() in TABLES or is_header(split_header(first)):
        return read_rows(text, names)
    return [Entry(number, line) for number, line in lines]


def split_header(line: str) -> Cells:
    """Return the cells of a line, by the separator with which they are a list's columns."""
    return line.split(find_separator(line, is_header))


def read_rows(text: Text, names: Names) -> list[Entry]:
    """Return the rows of a CSV; without a header the first column holds names, the second labels.

    Raises:
        InputError: it has a header without `file`, or is no CSV.
    """

    def fits(cells: Cells) -> bool:
        return "file" in column_names(cells) or names.get(cells[0]) is not None

    columns = {name: place for place, name in enumerate(COLUMNS)}
    entries: list[Entry] = []
    for number, row in records(text, fits, comments=True):
        header = column_names(row)
        if not entries and "file" in header:
            columns = {name: header.index(name) for name in COLUMNS if name in header}
            continue
        cells = dict(enumerate(row))
        label = cells.get(columns.get("label", -1), "").strip()
        entries.append(Entry(number, cells.get(columns["file"], ""), label or None))
    return entries


def find_samples(
    entries: Sequence[Entry], training: TrainingSet, names: Names, text: Text
) -> Tensor:
    """Return the samples that the entries mean, as indices (n,), in the file's order.

    Raises:
        InputError: there is no such file, it is named twice, or lies in another class's folder.
    """
    lines: dict[int, int] = {}  # sample -> line that names it
    for entry in entries:
        where = text.line(entry.line)
        index = names.find(entry.name, where, text.doubt)
        if index in lines:
            raise InputError(f"{where}: {entry.name!r} is named in line {lines[index]} already")
        refuse_other_label(entry, training.classes, int(training.labels[index]), where)
        lines[index] = entry.line
    return torch.tensor(list(lines), dtype=torch.int64)


def refuse_other_label(entry: Entry, classes: Sequence[str], label: int, where: str) -> None:
    """Raise `InputError` if a person saw another class than the folder's."""
    if entry.label is None or composed(entry.label) == composed(classes[label]):
        return
    known = {composed(name) for name in classes}
    if composed(entry.label) not in known:
        raise InputError(f"{where}: there is no class {entry.label!r}{nearest(entry.label, known)}")
    raise InputError(
        f"{where}: {entry.name!r} is verified as {entry.label!r}, but lies in the folder of class "
        f"{classes[label]!r}; move the image there, or take it out of the list"
    )

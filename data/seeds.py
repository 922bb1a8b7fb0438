"""The verified clean samples from which stage 1 starts: drawn, or listed in a file."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from data.poison import TrainingSet
from utils.errors import InputError, nearest
from utils.files import find_file
from utils.streams import Streams

if TYPE_CHECKING:
    from config.schema import GlobalSection

KEY = "global.seed_indices"
TRAIN_PREFIX = "train/"
MOST_DRAWN = 10  # a class, where `global.seed_num` is left open; so many has the paper
MOST_HINTED = 5000  # names among which the nearest is looked for: that takes a while


def verified_seeds(
    schedule: GlobalSection, training: TrainingSet, clean: Tensor, streams: Streams
) -> Tensor:
    """Return the verified samples, as sorted indices: those of a file, or drawn as in the paper."""
    if schedule.seed_indices is not None:
        least = 1 if schedule.seed_num == "auto" else schedule.seed_num
        return read_seeds(schedule.seed_indices, training, least)
    return draw_seeds(training, clean, number_to_draw(schedule, training), streams)


def number_to_draw(schedule: GlobalSection, training: TrainingSet) -> int:
    """Return `seed_num`; where that is left open, ten a class, and at most half of the smallest."""
    if schedule.seed_num != "auto":
        return schedule.seed_num
    smallest = int(torch.bincount(training.labels, minlength=training.num_classes).min())
    return max(1, min(MOST_DRAWN, smallest // 2))


def draw_seeds(training: TrainingSet, clean: Tensor, count: int, streams: Streams) -> Tensor:
    """Return `count` truly clean samples of each class, as indices (C * count,), sorted.

    This stands for a person who checks samples by hand, as in the paper; it is the one place where
    the truth (`clean`, (N,) bool) reaches the defence.

    Raises:
        InputError: a class has fewer clean samples.
    """
    generator = streams.torch("seeds")
    chosen = []
    for label, name in enumerate(training.classes):
        candidates = torch.nonzero((training.labels == label) & clean).flatten()
        if len(candidates) < count:
            kind = "samples" if bool(clean.all()) else "clean samples"
            raise InputError(
                f"global.seed_num: {count} asked for, but class {name!r} has "
                f"{len(candidates)} {kind}"
            )
        order = torch.randperm(len(candidates), generator=generator)
        chosen.append(candidates[order[:count]])
    return torch.cat(chosen).sort().values


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
    lines = [] if file.suffix == ".npy" else read_lines(file)
    if training.files is not None and holds_names(file, lines):
        indices = find_samples(read_entries(file, lines), training, file)
    else:
        indices = read_numbers(file, lines)
        refuse_wrong_numbers(indices, len(training), file)
    if not len(indices):
        raise InputError(f"{KEY}: {file} lists no sample")
    refuse_few(indices, training, count, f"{KEY}: {file}")
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


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{KEY}: {file} cannot be read as text ({error})") from error


# ------------------------------------------------------------------------------- sample numbers


def words_of(lines: Sequence[str]) -> list[str]:
    """Return what stands between blanks and commas, without comments."""
    return " ".join(line.partition("#")[0] for line in lines).replace(",", " ").split()


def holds_names(file: Path, lines: Sequence[str]) -> bool:
    """Return whether a file lists names: its first line that is no comment is not all numbers."""
    if file.suffix == ".npy":
        return False
    lines_of_words = (words_of([line]) for line in lines)
    first = next((words for words in lines_of_words if words), [])
    return not all(word.lstrip("-").isdecimal() for word in first)


def read_numbers(file: Path, lines: Sequence[str]) -> Tensor:
    """Return the integers in a `.npy` or in text lines as (n,) int64."""
    try:
        if file.suffix != ".npy":
            return torch.tensor([int(word) for word in words_of(lines)], dtype=torch.int64)
        array = np.load(file, allow_pickle=False).ravel()
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"it holds {array.dtype}, not integers")
        return torch.from_numpy(array.astype(np.int64))
    except (ValueError, OSError) as error:
        raise InputError(f"{KEY}: {file} cannot be read as sample numbers ({error})") from error


def refuse_wrong_numbers(indices: Tensor, count: int, file: Path) -> None:
    """Raise `InputError` if a number is out of range or given twice."""
    wrong = indices[(indices < 0) | (indices >= count)]
    if len(wrong):
        raise InputError(f"{KEY}: {file} names sample {wrong[0]}, there are 0 to {count - 1}")
    if len(indices.unique()) < len(indices):
        raise InputError(f"{KEY}: {file} names a sample twice")


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


def composed(name: str) -> str:
    """Return a file name in one spelling: some systems store an umlaut as a letter and a dot."""
    return unicodedata.normalize("NFC", name.strip()).removeprefix("./")


def read_entries(file: Path, lines: Sequence[str]) -> list[Entry]:
    """Return the names in a CSV (by its ending or its header), or one a line."""
    header = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    if file.suffix.lower() == ".csv" or header in (["file"], ["file", "label"]):
        return read_table(file, lines)
    numbered = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [Entry(number, name) for number, name in numbered if name and name[0] != "#"]


def read_table(file: Path, lines: Sequence[str]) -> list[Entry]:
    """Return the rows of a CSV; without a header the first column holds names, the second labels.

    Raises:
        InputError: it has a header without `file`, or is no CSV.
    """
    reader = csv.reader(lines, strict=True)
    columns = {"file": 0, "label": 1}
    entries: list[Entry] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            names = [cell.lower() for cell in cells]
            if not entries and "file" in names:
                columns = {name: names.index(name) for name in ("file", "label") if name in names}
                continue
            label = cells[columns["label"]] if columns.get("label", len(cells)) < len(cells) else ""
            name = cells[columns["file"]] if columns["file"] < len(cells) else ""
            entries.append(Entry(reader.line_num, name, label or None))
    except csv.Error as error:
        raise InputError(f"{KEY}: {file}, line {reader.line_num}: no CSV ({error})") from error
    return entries


def find_samples(entries: Sequence[Entry], training: TrainingSet, file: Path) -> Tensor:
    """Return the samples that the entries mean, as indices (n,), in the file's order.

    Raises:
        InputError: there is no such file, it is named twice, or lies in another class's folder.
    """
    assert training.files is not None
    known = {composed(name): index for index, name in enumerate(training.files)}
    lines: dict[int, int] = {}  # sample -> line that names it
    for entry in entries:
        where = f"{KEY}: {file}, line {entry.line}"
        index = find_sample(entry.name, known, where)
        if index in lines:
            raise InputError(f"{where}: {entry.name!r} is named in line {lines[index]} already")
        refuse_other_label(entry, training.classes, int(training.labels[index]), where)
        lines[index] = entry.line
    return torch.tensor(list(lines), dtype=torch.int64)


def find_sample(name: str, known: Mapping[str, int], where: str) -> int:
    """Return the sample whose file is `name`, relative to the data set's folder or to `train/`."""
    wanted = composed(name)
    for candidate in (wanted, TRAIN_PREFIX + wanted):
        if candidate in known:
            return known[candidate]
    raise InputError(f"{where}: there is no training image {name!r}{hint(wanted, known)}")


def hint(name: str, known: Mapping[str, int]) -> str:
    """Return a hint at the nearest file: of that name elsewhere, else in that folder, else any."""
    folder, _, base = name.rpartition("/")
    for candidates in (
        [other for other in known if other.rpartition("/")[2] == base],
        [other for other in known if folder and other.rpartition("/")[0].endswith(folder)],
        list(known),
    ):
        if candidates:
            found = nearest(name, candidates[:MOST_HINTED])
            return found if "did you mean" in found else ""
    return ""


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

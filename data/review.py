"""What a person has said about training samples: `review: FILE` in the YAML.

A CSV with the columns `file` and `verdict` (`clean`, `poisoned`, or nothing for a sample that was
not looked at). A report's `suspects.csv` with a column `verdict` added is such a file.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.poison import TrainingSet
from utils.errors import InputError, nearest
from utils.files import find_file

KEY = "review"
CLEAN, POISONED = "clean", "poisoned"


@dataclass(frozen=True)
class Review:
    """The samples that a person has looked at.

    Attributes:
        clean: (n,) int64, sorted; they are verified samples from then on.
        poisoned: (m,) int64, sorted; they never enter the clean pool.
    """

    clean: Tensor
    poisoned: Tensor

    def __len__(self) -> int:
        return len(self.clean) + len(self.poisoned)

    def to(self, device: torch.device) -> Review:
        """Return the same on `device`."""
        return Review(self.clean.to(device), self.poisoned.to(device))

    def seeds(self, seeds: Tensor) -> Tensor:
        """Return `seeds` (k,) int64 with the clean ones added and the poisoned ones left out."""
        joined = torch.cat([seeds, self.clean]).unique()
        return joined[~torch.isin(joined, self.poisoned)]


def read_review(path: str | None, training: TrainingSet) -> Review:
    """Return what the file at `path` says; an empty review where there is no file.

    Raises:
        InputError: unreadable, a column is missing, an unknown verdict or sample, or a sample that
            is called both clean and poisoned.
    """
    verdicts: dict[int, str] = {}
    if path is not None:
        file = find_file(path, KEY)
        places = training.places()
        for line, row in read_rows(file):
            verdict = (row["verdict"] or "").strip().lower()
            if not verdict:
                continue
            where = f"{KEY}: {file}, line {line}"
            if verdict not in (CLEAN, POISONED):
                raise InputError(f"{where}: verdict {verdict!r}; {CLEAN} or {POISONED} is expected")
            index = place_of((row["file"] or "").strip(), places, where)
            if verdicts.setdefault(index, verdict) != verdict:
                raise InputError(f"{where}: {row['file']!r} was called {verdicts[index]} before")
    return Review(chosen(verdicts, CLEAN), chosen(verdicts, POISONED))


def chosen(verdicts: Mapping[int, str], wanted: str) -> Tensor:
    """Return the samples with the verdict `wanted`, sorted."""
    found = sorted(index for index, verdict in verdicts.items() if verdict == wanted)
    return torch.tensor(found, dtype=torch.int64)


def place_of(name: str, places: Mapping[str, int], where: str) -> int:
    """Return the number of the sample `name`.

    Raises:
        InputError: there is none.
    """
    if name not in places:
        hint = nearest(name, places)
        close = hint if "did you mean" in hint else ""
        raise InputError(f"{where}: there is no training sample {name!r}{close}")
    return places[name]


def read_rows(file: Path) -> list[tuple[int, dict[str, str | None]]]:
    """Return the rows of a CSV with the columns `file` and `verdict`, each with its line's number.

    Raises:
        InputError: it is no such CSV.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{KEY}: {file} cannot be read ({error})") from error
    for column in ("file", "verdict"):
        if column not in columns:
            raise InputError(
                f"{KEY}: {file} has no column {column!r}; its first line must name file and verdict"
            )
    return rows

"""What a person has said about training samples: `review: FILE` in the YAML.

A CSV with the columns `file` and `verdict` (`clean`, `poisoned`, or nothing for a sample that was
not looked at), as any spreadsheet saves it. A report's `suspects.csv` with a column `verdict` added
is such a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data.names import Names
from data.poison import TrainingSet
from utils.errors import InputError
from utils.files import find_file
from utils.tables import read_table

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
        names = Names(training)
        table = read_table(find_file(path, KEY), KEY, ("file", "verdict"), names.raw)
        for row in table.rows:
            verdict = row.cells["verdict"].strip().lower()
            if not verdict:
                continue
            where, name = table.text.line(row.line), row.cells["file"]
            if verdict not in (CLEAN, POISONED):
                raise InputError(
                    f"{where}: verdict {verdict[:40]!r}; {CLEAN} or {POISONED} is expected"
                )
            index = names.find(name, where, table.text.doubt)
            if verdicts.setdefault(index, verdict) != verdict:
                raise InputError(f"{where}: {name!r} was called {verdicts[index]} before")
    return Review(chosen(verdicts, CLEAN), chosen(verdicts, POISONED))


def chosen(verdicts: Mapping[int, str], wanted: str) -> Tensor:
    """Return the samples with the verdict `wanted`, sorted."""
    found = sorted(index for index, verdict in verdicts.items() if verdict == wanted)
    return torch.tensor(found, dtype=torch.int64)

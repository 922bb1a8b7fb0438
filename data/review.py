"""What a person has said about training samples: `review: FILE` in the YAML.

A CSV with the columns `file` and `verdict` (`clean`, `poisoned`, or nothing for a sample that was
not looked at), as any spreadsheet saves it. A report's `suspects.csv` with a column `verdict` added
is such a file. Or the JSON that FiftyOne or Label Studio exports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.formats.format import CLEAN, POISONED, VERDICTS, Said
from data.formats.reading import said_in_export
from data.names import Names
from data.poison import TrainingSet
from utils.errors import InputError
from utils.files import find_file
from utils.tables import read_table
from utils.texts import Text, read_text

KEY = "review"


@dataclass(frozen=True)
class Review:
    """The samples that a person has looked at.

    Attributes:
        accepted: (n,) int64, sorted; called clean, they are verified samples from then on.
        rejected: (m,) int64, sorted; called poisoned, a method that splits keeps them out of its
            clean pool.
        ignored: number of samples with a verdict on which the run does not train.
    """

    accepted: Tensor
    rejected: Tensor
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.accepted) + len(self.rejected)

    def to(self, device: torch.device) -> Review:
        """Return the same on `device`."""
        return Review(self.accepted.to(device), self.rejected.to(device), self.ignored)

    def lines(self) -> list[str]:
        """Return what it counts, and a line where a part of it counts for nothing."""
        counted = [f"{len(self.accepted)} {CLEAN}, {len(self.rejected)} {POISONED}"]
        lines = [f"{KEY}: {count}" for count in counted if len(self)]
        if not self.ignored:
            return lines
        return [
            *lines,
            f"{KEY}: {self.ignored} of {self.ignored + len(self)} samples that it judges are held "
            f"out of training or left out of it, so that its word on them counts for nothing",
        ]

    def verdicts(self) -> dict[int, str]:
        """Return the verdict on each sample, in the order of samples."""
        found = dict.fromkeys(self.accepted.tolist(), CLEAN)
        found |= dict.fromkeys(self.rejected.tolist(), POISONED)
        return dict(sorted(found.items()))

    def seeds(self, seeds: Tensor) -> Tensor:
        """Return `seeds` (k,) int64 with the accepted ones added and the rejected ones left out."""
        joined = torch.cat([seeds, self.accepted]).unique()
        return joined[~torch.isin(joined, self.rejected)]

    def applied_to(self, values: Tensor, accepted: float, rejected: float) -> Tensor:
        """Return `values` (N,) bool or float where a person's word outweighs all else.

        Args:
            values: on the device of the review; they are left as they are.
            accepted: what the accepted samples get.
            rejected: what the rejected ones get.
        """
        given = values.index_fill(0, self.accepted, accepted)
        return given.index_fill_(0, self.rejected, rejected)


def no_review() -> Review:
    """Return the review of nobody who has looked at nothing."""
    return Review(chosen({}, CLEAN), chosen({}, POISONED))


def read_review(path: str | None, training: TrainingSet, left_out: Sequence[str] = ()) -> Review:
    """Return what the file at `path` says; an empty review where there is no file.

    Args:
        path: of the file.
        training: the set that it is about.
        left_out: files that belong to that set, too, and are not trained on. Another run may have
            held out others, so a review may name them.

    Raises:
        InputError: unreadable, a column is missing, an unknown verdict or sample, or a sample that
            is called both clean and poisoned.
    """
    verdicts: dict[int, str] = {}
    if path is not None:
        names = Names(training, left_out)
        text = read_text(find_file(path, KEY), KEY, names.raw)
        found = list(find_exported(text, names) if text.is_json else find_listed(text, names))
        if not found:
            raise InputError(
                f"{text.where} calls no sample {CLEAN} or {POISONED}; nothing is reviewed"
            )
        for index, said in found:
            if verdicts.setdefault(index, said.verdict) != said.verdict:
                before = verdicts[index]
                raise InputError(f"{said.where}: {said.names[0]!r} was called {before} before")
    trained = {index: said for index, said in verdicts.items() if index < len(training)}
    ignored = len(verdicts) - len(trained)
    return Review(chosen(trained, CLEAN), chosen(trained, POISONED), ignored)


def find_listed(text: Text, names: Names) -> Iterator[tuple[int, Said]]:
    """Yield the samples that the rows of a table name, with what is said of them.

    Raises:
        InputError: no such table, an unknown verdict or sample.
    """
    for row in read_table(text, ("file", "verdict")).rows:
        verdict = row.cells["verdict"].strip().lower()
        if not verdict:
            continue
        where, name = text.line(row.line), row.cells["file"]
        if verdict not in VERDICTS:
            raise InputError(
                f"{where}: verdict {verdict[:40]!r}; {CLEAN} or {POISONED} is expected"
            )
        yield names.find_path(name, where, text.doubt), Said(where, (name,), verdict)


def find_exported(text: Text, names: Names) -> Iterator[tuple[int, Said]]:
    """Yield the samples that another tool's export names, with what is said of them.

    Raises:
        InputError: no such export, or an unknown sample.
    """
    for said in said_in_export(text, names.training.classes):
        where = f"{text.where}, {said.where}"
        indices = (names.by_path(name) for name in said.names)
        index = next((index for index in indices if index is not None), None)
        if index is None:
            raise names.unknown(said.names[0] if said.names else "", where)
        yield index, Said(where, said.names, said.verdict)


def chosen(verdicts: Mapping[int, str], wanted: str) -> Tensor:
    """Return the samples with the verdict `wanted`, sorted."""
    found = sorted(index for index, verdict in verdicts.items() if verdict == wanted)
    return torch.tensor(found, dtype=torch.int64)


def refuse_emptied(review: Review, seeds: Tensor, training: TrainingSet) -> None:
    """Raise `InputError` where a review leaves a class without a sample to start from.

    Args:
        review: what a person has said.
        seeds: (n,) int64, what is left; without the review each class has some.
        training: whose samples they are.
    """
    if not len(review.rejected):
        return
    left = torch.bincount(training.labels[seeds], minlength=training.num_classes)
    emptied = torch.nonzero(left == 0).flatten().tolist()
    if emptied:
        raise InputError(
            f"{KEY}: all samples of class {training.classes[emptied[0]]!r} from which the run "
            f"would start are called poisoned; verify others, here or beside the data"
        )

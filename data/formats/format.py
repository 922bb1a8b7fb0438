"""What a format of another tool is made from, and what it gives back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from data.home import absolute
from data.names import paths_for_tools
from data.poison import TrainingSet
from utils.errors import TrainingError
from utils.files import write_text

CLEAN, POISONED = "clean", "poisoned"
NOT_IN_FILES = (
    "paths in it are below the folder that --export FOLDER writes: no file holds what the run saw"
)
VERDICTS = (CLEAN, POISONED)


@dataclass(frozen=True)
class Listing:
    """The training samples as a run judges them; all on the CPU.

    Attributes:
        training: images and given labels.
        order: (N,) int64, the most suspicious first.
        score: (N,) float32 in 0..1, high is suspicious.
        predicted: (N,) int64, the model's own labels.
        probability: (N,) float32, that it gives to its own label.
        given: (N,) float32, that it gives to the given label.
        kept: (N,) bool, the samples that may be kept.
        probabilities: (N, K) float32, of all classes; None where no format asked for them.
        verdict: on the data set as a whole.
        targets: names of the suspected classes.
    """

    training: TrainingSet
    order: Tensor
    score: Tensor
    predicted: Tensor
    probability: Tensor
    given: Tensor
    kept: Tensor
    probabilities: Tensor | None
    verdict: str
    targets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.training)

    @cached_property
    def files(self) -> Sequence[str | None]:
        """Paths below the folder that the tool is given; see `paths_for_tools`."""
        return paths_for_tools(self.training)

    @property
    def is_on_disk(self) -> bool:
        """Whether files hold the very pixels; else only those that `--export` writes do."""
        return self.training.files is not None and self.training.home is not None

    def place(self, index: int) -> Path:
        """Return where the file of a sample is, in whole; for a set that is on the disk."""
        home = self.training.home
        assert home is not None
        return Path(absolute(home.path(self.training.name(index))))

    def label(self, index: int) -> str:
        """Return the name of the given label of a sample."""
        return self.training.classes[int(self.training.labels[index])]

    def own_label(self, index: int) -> str:
        """Return the name of the label that the model gives to a sample."""
        return self.training.classes[int(self.predicted[index])]


@dataclass(frozen=True)
class Said:
    """What a person has said of a sample in another tool.

    Attributes:
        where: in the file, for messages.
        names: of the sample, the surest first; the first one that is a sample counts.
        verdict: `clean` or `poisoned`.
    """

    where: str
    names: tuple[str, ...]
    verdict: str


class Format(ABC):
    """How one tool wants to have suspects, and how it gives verdicts back."""

    needs_probabilities: ClassVar[bool] = False
    leaves: ClassVar[tuple[str, ...]] = ()  # names of what it writes, below the report's folder
    names_files: ClassVar[bool] = True

    @abstractmethod
    def write(self, listing: Listing, folder: Path) -> list[str]:
        """Write what the tool reads below `folder`, that of the report; return lines to say."""

    def read(self, content: Any, classes: Sequence[str]) -> Iterator[Said] | None:
        """Yield what a person has said in the tool; None for content of another tool.

        Args:
            content: of a JSON file from a stranger; nothing about it is certain.
            classes: names; a label that is one of them is no verdict.
        """
        return None


def write_formats(formats: Iterable[Format], listing: Listing, folder: Path) -> list[str]:
    """Write `listing` for each of the tools; return lines to say."""
    lines = []
    for each in formats:
        lines += each.write(listing, folder)
        if each.names_files and not listing.is_on_disk:
            lines[-1] += f"; {NOT_IN_FILES}"
    return lines


def make_folder(folder: Path) -> Path:
    """Return `folder`, which is there from now on.

    Raises:
        TrainingError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder} could not be made ({error.strerror})") from error
    return folder


def write_json(path: Path, content: Any) -> None:
    """Write JSON in ASCII, so that any name of a file survives, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def rounded(value: Any) -> float:
    """Return a number with the digits that a reader can use."""
    return float(f"{float(value):.6g}")


def as_text(value: Any) -> str:
    """Return `value` if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def as_list(value: Any) -> list[Any]:
    """Return `value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_mapping(value: Any) -> dict[str, Any]:
    """Return `value` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def verdicts_in(words: Iterable[Any]) -> list[str]:
    """Return the verdicts among `words`, such as tags, in whatever case they are written."""
    lower = (as_text(word).strip().lower() for word in words)
    return [word for word in lower if word in VERDICTS]


def hold_verdicts(classes: Iterable[str]) -> bool:
    """Return whether a label may be a verdict: no class is called so."""
    return not verdicts_in(classes)

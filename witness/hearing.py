"""The hearing: all witnesses that the YAML names, asked once, before the first split that asks.

What they say is a function of the data and the reference, which is kept on the disk; so a run that
goes on hears the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from training.ground import Ground
from utils.console import say
from witness import WITNESSES
from witness.reference import Reference, find_reference
from witness.settings import WitnessSection
from witness.trust import ASKED, most_trusted
from witness.witness import Case, Statement


@dataclass(frozen=True)
class Testimony:
    """What the witnesses say together.

    Attributes:
        statements: by the witness's name, in the order in which they were heard; on the CPU.
        vetoed: (N,) bool, those that one of them vetoes; (0,) where nobody is heard.
        reference_loss: (N,) float32, of the plain model; (0,) where nobody is heard.
    """

    statements: Mapping[str, Statement] = field(default_factory=dict)
    vetoed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    reference_loss: Tensor = field(default_factory=lambda: torch.zeros(0))

    def to(self, device: torch.device) -> Testimony:
        """Return the same with what a split reads on `device`."""
        vetoed, loss = self.vetoed.to(device), self.reference_loss.to(device)
        return replace(self, vetoed=vetoed, reference_loss=loss)

    @property
    def accused(self) -> dict[int, list[str]]:
        """The classes that are accused, each with the witnesses that do."""
        found: dict[int, list[str]] = {}
        for name, statement in self.statements.items():
            for label in statement.accused:
                found.setdefault(label, []).append(name)
        return found


NOBODY = Testimony()


class Hearing:
    """Hears the witnesses when they are first asked for.

    Args:
        settings: who is heard.
        ground: the samples and how to compute.
        seeds: (n,) int64, the verified samples.
        cache: folder in which references are kept.
    """

    def __init__(
        self, settings: WitnessSection, ground: Ground, seeds: Tensor, cache: Path
    ) -> None:
        self.settings, self.ground = settings, ground
        self.seeds, self.cache = seeds.cpu(), cache

    @cached_property
    def reference(self) -> Reference:
        """The plain model, and what it says of all samples."""
        return find_reference(self.settings.reference, self.ground, self.cache)

    @cached_property
    def case(self) -> Case:
        """What the witnesses look at."""
        return Case(self.ground, self.ground.training.labels.cpu(), self.seeds, self.reference)

    @cached_property
    def testimony(self) -> Testimony:
        """What all witnesses say."""
        vetoed = torch.zeros(len(self.case.labels), dtype=torch.bool)
        statements: dict[str, Statement] = {}
        for choice in self.settings.heard:
            statement = WITNESSES.get(choice.name)(choice.settings).testify(self.case)
            statements[choice.name] = statement
            vetoed |= statement.vetoed
            say(self._told(choice.name, statement))
        return Testimony(statements, vetoed, self.reference.loss)

    def most_trusted(self, count: int) -> Tensor:
        """Return the `count` samples of each class that all witnesses trust most, (C * count,).

        Beside those that are heard, others are asked, whose vetoes count for this alone.
        """
        said = dict(self.testimony.statements)
        for name in ASKED:
            if name not in said:
                kind = WITNESSES.get(name)
                said[name] = kind(kind.Settings()).testify(self.case)
        return most_trusted(self.case, said, count)

    def _told(self, name: str, statement: Statement) -> str:
        """Return a line that says what a witness has said."""
        classes = self.ground.training.classes
        accused = [f"{classes[label]!r}" for label in statement.accused]
        whom = f", accuses {', '.join(accused)}" if accused else ""
        return f"witness {name}: vetoes {int(statement.vetoed.sum())} samples{whom}"

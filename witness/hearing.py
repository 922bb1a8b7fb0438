"""The hearing: all witnesses that the YAML names, asked once, before the first split that asks.

Those who wait are asked once, too, when stage 1 has ended. What they say is a function of the data,
of the reference, which is kept on the disk, and of what the model in training said then, which the
checkpoint holds; so a run that goes on hears the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from training.ground import Ground
from utils.choice import Choice
from utils.console import say
from witness import WITNESSES
from witness.reference import Reference, check_reference, find_reference
from witness.settings import WitnessSection
from witness.trust import most_trusted
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


def check_hearing(settings: WitnessSection, ground: Ground) -> None:
    """Refuse, before a run begins, what the witnesses could not work with.

    Raises:
        InputError: a file that one of them needs, or a network that takes no such images.
    """
    check_reference(settings.reference, ground)
    for choice in settings.heard:
        WITNESSES.get(choice.name).check(choice.settings, ground.training)


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
        self._model_loss: Tensor | None = None

    @cached_property
    def reference(self) -> Reference:
        """The plain model, and what it says of all samples."""
        return find_reference(self.settings.reference, self.ground, self.cache)

    @cached_property
    def case(self) -> Case:
        """What the witnesses look at."""
        return Case(self.ground, self.ground.training.labels.cpu(), self.seeds, self.reference)

    @property
    def testimony(self) -> Testimony:
        """What all witnesses say that have been heard so far."""
        return self._at_first if self._model_loss is None else self._in_the_end

    @property
    def model_loss(self) -> Tensor | None:
        """What those who waited were told, (N,) float32 on the CPU; None: they wait, or none do."""
        return self._model_loss

    def tell(self, model_loss: Tensor) -> None:
        """Let those be heard who wait for the model in training, if there are any.

        Args:
            model_loss: (N,) its losses at the end of stage 1; what it says later changes nothing.
        """
        if self._model_loss is None and any(self._waits(choice) for choice in self.settings.heard):
            self._model_loss = model_loss.detach().float().cpu().clone()

    @cached_property
    def _at_first(self) -> Testimony:
        return self._heard(self.case, NOBODY, waits=False)

    @cached_property
    def _in_the_end(self) -> Testimony:
        case = replace(self.case, model_loss=self._model_loss)
        return self._heard(case, self._at_first, waits=True)

    def _heard(self, case: Case, before: Testimony, waits: bool) -> Testimony:
        """Return what was said before, and what those say who wait for the model, or do not."""
        vetoed = torch.zeros(len(case.labels), dtype=torch.bool)
        statements = dict(before.statements)
        for choice in self.settings.heard:
            if self._waits(choice) == waits:
                statement = WITNESSES.get(choice.name)(choice.settings).testify(case)
                statements[choice.name] = statement
                say(self._told(choice.name, statement))
        for statement in statements.values():
            vetoed |= statement.vetoed
        return Testimony(statements, vetoed, self.reference.loss)

    @staticmethod
    def _waits(choice: Choice) -> bool:
        return WITNESSES.get(choice.name).waits

    def most_trusted(self, count: int) -> Tensor:
        """Return the `count` samples of each class that all witnesses trust most, (C * count,).

        Beside those that are heard, others are asked, whose vetoes count for this alone.
        """
        said = dict(self.testimony.statements)
        for name in WITNESSES:
            kind = WITNESSES.get(name)
            if kind.asked_for_seeds and name not in said:
                said[name] = kind(kind.Settings()).testify(self.case)
        return most_trusted(self.case, said, count)

    def _told(self, name: str, statement: Statement) -> str:
        """Return a line that says what a witness has said."""
        classes = self.ground.training.classes
        accused = [f"{classes[label]!r}" for label in statement.accused]
        whom = f", accuses {', '.join(accused)}" if accused else ""
        return f"witness {name}: vetoes {int(statement.vetoed.sum())} samples{whom}"

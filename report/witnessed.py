"""What the witnesses say, for the page: whom they accuse, and what of each suspect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from report.findings import Findings
from run.measure import veto_quality


@dataclass(frozen=True)
class Heard:
    """What one witness says.

    Attributes:
        name: of the witness.
        vetoed: samples whose label it vetoes.
        accused: each accused class by name, how surely (0..1), and how many of its samples it
            vetoes.
    """

    name: str
    vetoed: int
    accused: list[tuple[str, float, int]]


def heard(findings: Findings) -> list[Heard]:
    """Return what each witness says, in the order in which they were heard."""
    labels, classes = findings.training.labels.cpu(), findings.training.classes
    return [
        Heard(
            name=name,
            vetoed=int(said.vetoed.sum()),
            accused=[
                (classes[label], min(strength, 1.0), int(said.vetoed_of(label, labels).sum()))
                for label, strength in said.accused.items()
            ],
        )
        for name, said in findings.testimony.statements.items()
    ]


def testimony_on(findings: Findings, index: int) -> list[tuple[float, bool]]:
    """Return each witness's suspicion of a sample, in robust deviations, and whether it vetoes."""
    return [
        (float(said.suspicion[index]), bool(said.vetoed[index]))
        for said in findings.testimony.statements.values()
    ]


def as_result(findings: Findings) -> dict[str, Any]:
    """Return what each witness says, for `result.json`; beside it, where known, how true that is.

    Empty where nobody is heard.
    """
    said = {}
    for one in heard(findings):
        vetoed = findings.testimony.statements[one.name].vetoed
        accused = {name: {"strength": strength, "vetoed": n} for name, strength, n in one.accused}
        said[one.name] = {"vetoed": one.vetoed, "accused": accused}
        said[one.name] |= veto_quality(vetoed, findings.poisoned)
    return {"witnesses": said} if said else {}

"""What the witnesses hold against classes, in the words of the verdict."""

from __future__ import annotations

from report.estimate import estimate_by_veto, label_pairs
from report.findings import Findings
from report.judge import Accusation
from witness import WITNESSES


def accusations_of(findings: Findings) -> dict[int, Accusation]:
    """Return what witnesses say against classes, by class; the surest of several counts."""
    labels, found = findings.training.labels.cpu(), dict[int, Accusation]()
    predicted, classes = findings.opinion.predicted, findings.training.num_classes
    pairs, accused = label_pairs(labels, predicted, classes), findings.testimony.accused
    for name, said in findings.testimony.statements.items():
        for label, strength in said.accused.items():
            samples = int(said.vetoed_of(label, labels).sum())
            earlier = found.get(label)
            if samples and (earlier is None or strength > earlier.strength):
                reason = (
                    f"the witness {name} objects to {samples} samples labelled "
                    f"{findings.training.classes[label]!r}"
                )
                vetoed = label_pairs(labels[said.vetoed], predicted[said.vetoed], classes)
                estimate = estimate_by_veto(pairs, vetoed, strength, label, accused)
                found[label] = Accusation(min(strength, 1.0), estimate, reason)
    return found


def kinds_seen(findings: Findings) -> tuple[str, ...]:
    """Return the kinds of poison that the witnesses would have seen."""
    names = findings.testimony.statements
    return tuple(dict.fromkeys(kind for name in names for kind in WITNESSES.get(name).sees))

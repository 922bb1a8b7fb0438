"""What the witnesses hold against classes, in the words of the verdict."""

from __future__ import annotations

import torch

from report.estimate import estimate_by_veto, label_pairs
from report.findings import Findings
from report.judge import SMALLEST_SHARE, Accusation, read_thresholds
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
    """Return the kinds of poison that the witnesses would have seen, in whatever class.

    Who could not look at a class (it has too few samples, say) has not seen that there is none.
    """
    there = set(findings.training.labels.unique().tolist())
    seeing = [
        name
        for name, said in findings.testimony.statements.items()
        if said.looked_at is None or there <= said.looked_at
    ]
    return tuple(dict.fromkeys(kind for name in seeing for kind in WITNESSES.get(name).sees))


def doubts_of(findings: Findings) -> tuple[str, ...]:
    """Return to which classes witnesses object without an accusation that makes a verdict.

    In so many samples, that an all-clear would deny them; a few scattered ones are usual.
    """
    labels, training = findings.training.labels.cpu(), findings.training
    least, many = read_thresholds()["accuse_by_witness_from"], SMALLEST_SHARE * len(labels)
    found = []
    for name, said in findings.testimony.statements.items():
        counts = torch.bincount(labels[said.vetoed], minlength=training.num_classes)
        for label in torch.nonzero(counts >= max(many, 1)).flatten().tolist():
            if said.accused.get(label, 0.0) < least:
                found.append(
                    f"the witness {name} objects to {int(counts[label])} samples labelled "
                    f"{training.classes[label]!r}, though not surely enough to accuse them"
                )
    return tuple(found)

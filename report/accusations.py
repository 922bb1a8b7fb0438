"""What the witnesses, and a person, hold against classes, in the words of the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch

from report.estimate import Estimate, estimate_by_veto, label_pairs
from report.findings import Findings
from report.judge import SMALLEST_SHARE, Accusation, read_thresholds
from witness import WITNESSES

ENOUGH = 5  # samples of one label that a person calls poisoned, to accuse it: no slip any more


def accusations_of(findings: Findings) -> dict[int, Accusation]:
    """Return what witnesses and a person say against classes, by class."""
    found = by_witnesses(findings)
    for label, count in rejected_by_label(findings).items():
        if count >= ENOUGH:
            said, looked_at = found.get(label), Estimate(count, count, count)
            reason = told_by_a_person(findings, label, count)
            alone = Accusation(1.0, looked_at, reason, complete=False)
            found[label] = alone if said is None else joined(said, reason, looked_at)
    return found


def joined(said: Accusation, reason: str, looked_at: Estimate) -> Accusation:
    """Return a witness's accusation with a person's word beside it, who has seen some samples."""
    least, known = looked_at.count, said.estimate
    bounds = (max(part, least) for part in (known.count, known.low, known.high))
    reason = f"{said.reason}; {reason}"
    return replace(said, strength=1.0, estimate=Estimate(*bounds), reason=reason)


def rejected_by_label(findings: Findings) -> dict[int, int]:
    """Return how many samples of each given label a person calls poisoned, by label."""
    labels = findings.training.labels.cpu()
    return dict(sorted(Counter(labels[list(findings.rejected)].tolist()).items()))


def told_by_a_person(findings: Findings, label: int, count: int) -> str:
    """Return what a person says of the samples with a label."""
    samples = "1 sample" if count == 1 else f"{count} samples"
    return f"a person calls {samples} labelled {findings.training.classes[label]!r} poisoned"


def by_witnesses(findings: Findings) -> dict[int, Accusation]:
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
    """Return what a person or witnesses object to without an accusation that makes a verdict.

    Of a person each sample counts. Of a witness so many, that an all-clear would deny them; a few
    scattered ones are usual.
    """
    labels, training = findings.training.labels.cpu(), findings.training
    least, many = read_thresholds()["accuse_by_witness_from"], SMALLEST_SHARE * len(labels)
    found = [
        f"{told_by_a_person(findings, label, count)}, too few to accuse the others with that label"
        for label, count in rejected_by_label(findings).items()
        if count < ENOUGH
    ]
    for name, said in findings.testimony.statements.items():
        counts = torch.bincount(labels[said.vetoed], minlength=training.num_classes)
        for label in torch.nonzero(counts >= max(many, 1)).flatten().tolist():
            if said.accused.get(label, 0.0) < least:
                found.append(
                    f"the witness {name} objects to {int(counts[label])} samples labelled "
                    f"{training.classes[label]!r}, though not surely enough to accuse them"
                )
    return tuple(found)

"""Whether a set looks poisoned, for data of which nobody knows the truth; or that nobody can tell.

Poison that changes labels has few labels, the targets, and comes from all other classes. So each
of them stands densely at the top of the suspects, and the model itself gives these samples many
different labels (see `report/concentration.py`). Two classes that are hard to tell apart look
different: there the top holds one given label too (digits, without poison: 25 samples labelled 9),
but the model's own label is the same for nearly all of them (4). So what counts is how densely a
class stands there once its most frequent own label is left out. A backdoor that starts from one
class only is not told from such a confusion; then the verdict is `cannot_tell`. A labeller who gave
one label to samples of all classes by mistake leaves the same traces as poison, so the words say
both. Where the lines are drawn comes from runs on clean and on poisoned sets: `thresholds.json`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from report.concentration import Concentration, Suspects, concentrations, stand_out
from report.estimate import Estimate, estimate_poisoned, label_pairs
from report.findings import Findings
from report.verdict import UNSEEN_KINDS, Verdict

THRESHOLDS = Path(__file__).with_name("thresholds.json")


@dataclass(frozen=True)
class Accusation:
    """What another witness says against a class.

    Attributes:
        strength: 0..1; from `accuse_by_witness_from` on the verdict is `poisoned`.
        samples: about how many samples of the class are poisoned, at least 1.
        reason: a sentence for a reader.
    """

    strength: float
    samples: int
    reason: str

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("an accusation without samples accuses nobody")


def judge(
    findings: Findings,
    seeds_checked: bool,
    accusations: Mapping[int, Accusation] | None = None,
    seen_kinds: Collection[str] = (),
) -> Verdict:
    """Return the verdict on the training set.

    Classes that the run has lost are left aside: it contradicts all their samples.

    Args:
        findings: what is known of each sample; the truth in it is not read.
        seeds_checked: whether a person, or the truth of a benchmark, vouches for the seeds.
        accusations: of other witnesses, by class.
        seen_kinds: those of `UNSEEN_KINDS` that these witnesses would have seen.
    """
    limits, labels = read_thresholds(), findings.training.labels.cpu()
    predicted, lost = findings.opinion.predicted, findings.lost_classes
    suspects = Suspects(findings.contradiction, labels, predicted, findings.training.classes)
    broad = stand_out(suspects, lost, limits["poisoned_from"])
    dense = concentrations(suspects, False, lost)
    agreement = float((predicted == labels).double().mean())
    statistics = {
        "broad_concentration": min((one.excess for one in broad), default=0.0),
        "concentration": max((one.excess for one in dense), default=0.0),
        "agreement": agreement,
        **limits,
    }
    charges = [] if agreement < limits["accuse_from"] else charge(suspects, broad, limits)
    charges = [*charges, *charge_by_witness(suspects, accusations or {}, limits)]
    if charges:
        return accuse(charges, statistics)
    doubts = [*unseen(findings, seeds_checked), *unsure(broad, dense, agreement, findings, limits)]
    if doubts:
        return Verdict("cannot_tell", None, 0, statistics, tuple(doubts))
    reason = "no class stands out among the suspects, as it would if samples of many classes had it"
    kinds = tuple(kind for kind in UNSEEN_KINDS if kind not in seen_kinds)
    return Verdict("no_sign", None, 0, statistics, (reason,), unseen_kinds=kinds)


@dataclass(frozen=True)
class Charge:
    """What speaks against one class.

    Attributes:
        name: of the class.
        estimate: about how many of its samples are poisoned.
        reason: a sentence for a reader.
    """

    name: str
    estimate: Estimate
    reason: str


def charge(
    suspects: Suspects, broad: tuple[Concentration, ...], limits: dict[str, float]
) -> list[Charge]:
    """Return the charges against the classes that stand out, the clearest first.

    A class of which no sample is estimated to be poisoned is not charged.
    """
    if not broad or broad[-1].excess < limits["poisoned_from"]:
        return []
    pairs = label_pairs(suspects.labels, suspects.predicted, suspects.num_classes)
    targets = [one.label for one in broad]
    found = []
    for one in broad:
        estimate = estimate_poisoned(pairs, one.label, targets)
        if estimate.count > 0:
            others = [suspects.names[label] for label in targets if label != one.label]
            aside = "".join(f", those labelled {name!r}" for name in sorted(others))
            reason = (
                f"{told(one, suspects.labels, suspects.names[one.label])} (those with its most "
                f"frequent own label{aside} left aside)"
            )
            found.append(Charge(suspects.names[one.label], estimate, reason))
    return found


def charge_by_witness(
    suspects: Suspects, accusations: Mapping[int, Accusation], limits: dict[str, float]
) -> list[Charge]:
    """Return the charges of other witnesses, the strongest first."""
    strong = [
        (-said.strength, suspects.names[label], said)
        for label, said in accusations.items()
        if said.strength >= limits["accuse_by_witness_from"]
    ]
    return [
        Charge(name, Estimate(said.samples, said.samples, said.samples), said.reason)
        for _, name, said in sorted(strong, key=lambda one: one[:2])
    ]


def accuse(charges: list[Charge], statistics: dict[str, float]) -> Verdict:
    """Return the verdict `poisoned`; of two charges against a class the larger number counts."""
    names = list(dict.fromkeys(one.name for one in charges))
    sums = Estimate(0, 0, 0)
    for name in names:
        own = [one.estimate for one in charges if one.name == name]
        sums = sums + max(own, key=lambda estimate: estimate.count)
    reasons = [one.reason for one in charges]
    reasons.append(
        "that is how poison looks, and how labels look that somebody gave to samples of other "
        "classes by mistake; the pictures of the first suspects tell which"
    )
    return Verdict(
        name="poisoned",
        suspected_target=names[0],
        estimated_poisoned=sums.count,
        statistics=statistics,
        reasons=tuple(reasons),
        suspected_targets=tuple(names),
        estimated_range=(sums.low, sums.high),
    )


def unseen(findings: Findings, seeds_checked: bool) -> list[str]:
    """Return why poison might be there although the model sees none."""
    found = [
        f"the run has lost the class {findings.training.classes[label]!r}: the model contradicts "
        f"all samples with this label, poisoned or not"
        for label in findings.lost_classes
    ]
    if not seeds_checked:
        found.append("nobody has checked the verified samples, so they may be poisoned themselves")
    return found


def unsure(
    broad: Sequence[Concentration],
    dense: Sequence[Concentration],
    agreement: float,
    findings: Findings,
    limits: dict[str, float],
) -> list[str]:
    """Return why what the model contradicts is no evidence, neither way.

    Args:
        broad: the classes that stand out together, their most frequent own labels left out.
        dense: all classes, the densest first, with all own labels.
        agreement: share of the samples to which the model gives their label by itself.
        findings: of the run.
        limits: the thresholds.
    """
    found, labels = [], findings.training.labels.cpu()
    names = findings.training.classes
    if broad and broad[-1].excess > limits["no_sign_broad_to"]:
        found.append(
            f"{told(broad[-1], labels, names[broad[-1].label])} (its most frequent own label and "
            f"other suspected classes left aside); that is too little to accuse and too much to "
            f"acquit"
        )
    elif dense and dense[0].excess > limits["no_sign_to"]:
        found.append(
            f"{told(dense[0], labels, names[dense[0].label])}; most of them look like one other "
            f"class, so it may be a confusion of two classes, or a backdoor that starts from one"
        )
    if agreement < limits["agreement_from"]:
        found.append(
            f"the model contradicts {1 - agreement:.0%} of the labels, more than on clean sets "
            f"({1 - limits['agreement_from']:.0%} at most): it is weak, or many labels are wrong"
        )
    return found


def told(found: Concentration, labels: Tensor, name: str) -> str:
    """Return what was found, for a reader."""
    usual = float((labels == found.label).double().mean())
    return (
        f"of the {found.first} samples whose label the model contradicts most, {found.share:.0%} "
        f"have the label {name!r}, while {usual:.0%} of all samples have it"
    )


def read_thresholds() -> dict[str, float]:
    """Return the thresholds, by name."""
    return json.loads(THRESHOLDS.read_text(encoding="utf-8"))["thresholds"]

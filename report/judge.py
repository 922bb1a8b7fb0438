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

from report.concentration import Concentration, Suspects, concentrations, jointly, stand_out
from report.estimate import Estimate, estimate_poisoned, label_pairs
from report.findings import Findings
from report.verdict import UNSEEN_KINDS, Verdict

THRESHOLDS = Path(__file__).with_name("thresholds.json")
CHOSEN = "no verified samples: the start was chosen by the witnesses"
UNCHECKED = "nobody has checked the samples from which the run started, so they may be poisoned"
CAUTIONS = {"chosen": CHOSEN, "drawn": UNCHECKED}  # beside an accusation
SMALLEST_SHARE = 0.005  # of the samples, poisoned: that much would have to show before an all-clear


@dataclass(frozen=True)
class Accusation:
    """What another witness, or a person, says against a class.

    Attributes:
        strength: 0..1; from `accuse_by_witness_from` on the verdict is `poisoned`.
        estimate: about how many samples of the class are poisoned, at least 1.
        reason: a sentence for a reader.
        complete: whether the estimate is of all poison; a person has but looked at some samples.
    """

    strength: float
    estimate: Estimate
    reason: str
    complete: bool = True

    def __post_init__(self) -> None:
        if self.estimate.count < 1:
            raise ValueError("an accusation without samples accuses nobody")


def judge(
    findings: Findings,
    accusations: Mapping[int, Accusation] | None = None,
    seen_kinds: Collection[str] = (),
    doubts: Sequence[str] = (),
    limits: Mapping[str, float] | None = None,
) -> Verdict:
    """Return the verdict on the training set.

    Classes that the run has lost are left aside: it contradicts most of their samples.

    Args:
        findings: what is known of each sample; the truth in it is not read.
        accusations: of other witnesses, by class.
        seen_kinds: those of `UNSEEN_KINDS` that these witnesses would have seen.
        doubts: what they object to without an accusation; no all-clear beside it.
        limits: thresholds; those in force where there are none.
    """
    limits, labels = limits or read_thresholds(), findings.training.labels.cpu()
    predicted, lost = findings.opinion.predicted, findings.lost_classes
    suspects = Suspects(findings.contradiction, labels, predicted, findings.training.classes)
    broad = stand_out(suspects, lost, limits["poisoned_from"])
    dense = concentrations(suspects, False, lost)
    statistics = {
        "broad_concentration": min((one.excess for one in broad), default=0.0),
        "joint_concentration": jointly(suspects, lost),
        "concentration": max((one.excess for one in dense), default=0.0),
        "agreement": float((predicted == labels).double().mean()),
        **limits,
    }
    charges = charge(suspects, broad, statistics)
    charges = [*charges, *charge_by_witness(suspects, accusations or {}, limits)]
    if charges:
        return accuse(charges, statistics, CAUTIONS.get(findings.origin))
    doubts = [*unseen(findings), *unsure(suspects, dense[:1], statistics), *doubts]
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
        by_witness: whether a witness brings it, who names all samples.
    """

    name: str
    estimate: Estimate
    reason: str
    by_witness: bool = False


def charge(
    suspects: Suspects, broad: tuple[Concentration, ...], statistics: Mapping[str, float]
) -> list[Charge]:
    """Return the charges against the classes that stand out, the clearest first.

    None by a weak model, none where the samples come from few classes, and none where the estimate
    leaves open whether any sample is poisoned.
    """
    if not broad or broad[-1].excess < statistics["poisoned_from"]:
        return []
    if statistics["agreement"] < statistics["accuse_from"]:
        return []
    pairs = label_pairs(suspects.labels, suspects.predicted, suspects.num_classes)
    targets = [one.label for one in broad]
    found = []
    for one in broad:
        estimate = estimate_poisoned(pairs, one.label, targets)
        if estimate.low > 0 and estimate.evenness >= statistics["even_from"]:
            others = [suspects.names[label] for label in targets if label != one.label]
            aside = "".join(f", those labelled {name!r}" for name in sorted(others))
            reason = (
                f"{told(one, suspects)} (those with its most frequent own label{aside} left aside)"
            )
            found.append(Charge(suspects.names[one.label], estimate, reason))
    return found


def charge_by_witness(
    suspects: Suspects, accusations: Mapping[int, Accusation], limits: Mapping[str, float]
) -> list[Charge]:
    """Return the charges of other witnesses, the strongest first."""
    strong = [
        (-said.strength, suspects.names[label], said)
        for label, said in accusations.items()
        if said.strength >= limits["accuse_by_witness_from"]
    ]
    return [
        Charge(name, said.estimate, said.reason, by_witness=said.complete)
        for _, name, said in sorted(strong, key=lambda one: one[:2])
    ]


def accuse(
    charges: list[Charge], statistics: dict[str, float], caution: str | None = None
) -> Verdict:
    """Return the verdict `poisoned`; of the charges against a class a witness's number counts.

    It names the samples, where the model cannot tell poison from hard ones. `caution`: one more
    sentence for a reader.
    """
    best: dict[str, Charge] = {}
    for one in sorted(charges, key=lambda one: not one.by_witness):
        best.setdefault(one.name, one)
    names = list(dict.fromkeys(one.name for one in charges))
    estimates = [best[name].estimate for name in names]
    reasons = [one.reason for one in charges]
    reasons.append(
        "that is how poison looks, and how labels look that somebody gave to samples of other "
        "classes by mistake; the pictures of the first suspects tell which"
    )
    reasons += [] if caution is None else [caution]
    return Verdict(
        name="poisoned",
        suspected_target=names[0],
        estimated_poisoned=sum(one.count for one in estimates),
        statistics=statistics,
        reasons=tuple(reasons),
        suspected_targets=tuple(names),
        estimated_range=(sum(one.low for one in estimates), sum(one.high for one in estimates)),
    )


def unseen(findings: Findings) -> list[str]:
    """Return why poison might be there although the model sees none."""
    found = []
    if findings.history.epochs:
        found += [
            f"the run has lost the class {findings.training.classes[label]!r}: the model "
            f"contradicts most samples with this label, poisoned or not"
            for label in findings.lost_classes
        ]
    else:
        found.append(
            "nothing was set apart in training: the model was taught every label, those of poison "
            "too, so what it believes tells nothing; a defence that splits the samples would tell"
        )
    if findings.origin == "chosen":
        found.append(f"{CHOSEN}, and witnesses can be fooled")
    elif findings.origin == "drawn":
        found.append(UNCHECKED)
    return found


def unsure(
    suspects: Suspects, dense: Sequence[Concentration], statistics: Mapping[str, float]
) -> list[str]:
    """Return why what the model contradicts is no evidence, neither way.

    Args:
        suspects: what the model says.
        dense: the densest class, with all own labels.
        statistics: the numbers of the verdict, and the thresholds.
    """
    found = []
    if statistics["joint_concentration"] > statistics["no_sign_joint_to"]:
        found.append(
            "one to three labels stand out among the samples that the model contradicts most; too "
            "few samples, or of too few classes, to accuse, and too many to acquit"
        )
    if dense and dense[0].excess > statistics["no_sign_to"]:
        found.append(
            f"{told(dense[0], suspects)}; most of them look like few other classes, so it may be a "
            f"confusion, or a backdoor that starts from these"
        )
    if statistics["agreement"] < statistics["agreement_from"]:
        found.append(
            f"the model contradicts {1 - statistics['agreement']:.0%} of the labels, more than on "
            f"clean sets ({1 - statistics['agreement_from']:.0%} at most): it is weak, or many "
            f"labels are wrong"
        )
    smallest = SMALLEST_SHARE * len(suspects.labels)
    if smallest < statistics["no_sign_samples"]:
        found.append(
            f"the set is small: {SMALLEST_SHARE:.1%} of it is {smallest:.0f} of its samples, which "
            f"nobody can tell from hard ones; from {statistics['no_sign_samples']:.0f} on they "
            f"would show"
        )
    return found


def told(found: Concentration, suspects: Suspects) -> str:
    """Return what was found, for a reader."""
    usual = float((suspects.labels == found.label).double().mean())
    return (
        f"of the {found.first} samples whose label the model contradicts most, {found.share:.0%} "
        f"have the label {suspects.names[found.label]!r}, while {usual:.0%} of all samples have it"
    )


def read_thresholds() -> dict[str, float]:
    """Return the thresholds, by name."""
    return json.loads(THRESHOLDS.read_text(encoding="utf-8"))["thresholds"]

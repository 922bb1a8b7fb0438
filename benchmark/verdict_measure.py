"""What a run of known truth gives the verdict to go by, and how often the verdict is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.verdict_kinds import Kind, Labels
from report.concentration import Suspects, groups_of
from report.estimate import estimate_poisoned, label_pairs
from report.findings import Findings
from report.judge import judge
from report.verdict import Verdict

SURE = 1.96  # standard errors of an interval of 95 %


@dataclass(frozen=True)
class Run:
    """A run of known truth, and what the verdict goes by.

    Attributes:
        kind: of its set.
        count: samples of the set, about; as asked for.
        seed: of the run.
        samples: of the set.
        poisoned: how many of them are, or have a labeller's default.
        targets: names of the classes that these are labelled with.
        accusable: the highest `poisoned_from` at which a class would be accused.
        joint, dense, agreement: as in the verdict's statistics.
        verdict: by the thresholds that were given.
    """

    kind: Kind
    count: int
    seed: int
    samples: int
    poisoned: int
    targets: frozenset[str]
    accusable: float
    joint: float
    dense: float
    agreement: float
    verdict: Verdict

    @property
    def outcome(self) -> str:
        """The verdict; `poisoned` with how its targets are: right, some (of them), wrong."""
        accused = set(self.verdict.suspected_targets)
        if self.verdict.name != "poisoned" or not self.targets:
            return self.verdict.name
        if accused == self.targets:
            return "poisoned, right"
        return "poisoned, some" if accused < self.targets else "poisoned, wrong"

    def would_acquit(self, limits: Mapping[str, float]) -> bool:
        """Return whether these thresholds make it `no_sign`, whatever the size of the set."""
        return (
            self.accusable < limits["poisoned_from"]
            and self.joint <= limits["no_sign_joint_to"]
            and self.dense <= limits["no_sign_to"]
            and self.agreement >= limits["agreement_from"]
        )

    def as_row(self) -> dict[str, Any]:
        """Return it for the results."""
        numbers = {key: round(getattr(self, key), 3) for key in ("accusable", "joint", "dense")}
        return {
            "kind": self.kind.name,
            "samples": self.samples,
            "seed": self.seed,
            "poisoned": self.poisoned,
            "outcome": self.outcome,
            "estimated": self.verdict.estimated_poisoned,
            "estimated_range": list(self.verdict.estimated_range),
            **numbers,
            "agreement": round(self.agreement, 4),
        }


def measure(
    kind: Kind,
    count: int,
    seed: int,
    findings: Findings,
    labels: Labels,
    limits: Mapping[str, float],
) -> Run:
    """Return what the verdict by `limits` goes by in a run whose truth is `labels`."""
    training, predicted = findings.training, findings.opinion.predicted
    suspects = Suspects(findings.contradiction, training.labels, predicted, training.classes)
    verdict = judge(findings, limits=limits)
    said = verdict.statistics
    mistaken = sum(
        int(((labels.given == target) & (labels.true != target)).sum()) for target in labels.targets
    )
    return Run(
        kind=kind,
        count=count,
        seed=seed,
        samples=len(findings),
        poisoned=int(labels.poisoned.sum()) if kind.poison else mistaken,
        targets=frozenset(training.classes[target] for target in labels.targets),
        accusable=accusable(suspects, findings.lost_classes, said["agreement"], limits),
        joint=said["joint_concentration"],
        dense=said["concentration"],
        agreement=said["agreement"],
        verdict=verdict,
    )


def accusable(
    suspects: Suspects, aside: Sequence[int], agreement: float, limits: Mapping[str, float]
) -> float:
    """Return the highest `poisoned_from` at which some class would be accused."""
    if agreement < limits["accuse_from"]:
        return 0.0
    pairs = label_pairs(suspects.labels, suspects.predicted, suspects.num_classes)
    found = [0.0]
    for group in groups_of(suspects, aside):
        targets = [one.label for one in group]
        estimates = [estimate_poisoned(pairs, label, targets) for label in targets]
        if any(one.count > 0 and one.evenness >= limits["even_from"] for one in estimates):
            found.append(group[-1].excess)
    return max(found)


def rates(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return how often which verdict was given, for each kind and size, and for all that is alike.

    The intervals of 95 % are Wilson's.
    """
    parts: dict[str, list[Run]] = {"all": list(runs)}
    for run in runs:
        for name in (f"all {run.kind.expected}", f"{run.kind.name}, {run.count:,} samples"):
            parts.setdefault(name, []).append(run)
    return {name: rates_of(part) for name, part in parts.items()}


def rates_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Return how often which verdict was given, and how good the estimates were."""
    outcomes = [run.outcome for run in runs]
    found: dict[str, Any] = {"runs": len(runs)}
    found |= {name: outcomes.count(name) for name in sorted(set(outcomes))}
    accused = sum(name.startswith("poisoned") for name in outcomes)
    found["poisoned_interval"] = interval(accused, len(runs))
    named = [run for run in runs if run.outcome == "poisoned, right" and run.poisoned]
    if named:
        ratios = sorted(run.verdict.estimated_poisoned / run.poisoned for run in named)
        ends = ratios[0], ratios[len(ratios) // 2], ratios[-1]
        found["estimate_to_truth"] = [round(ratio, 2) for ratio in ends]
        within = [run.verdict.estimated_range for run in named]
        hits = sum(
            low <= run.poisoned <= high for run, (low, high) in zip(named, within, strict=True)
        )
        found["truth_in_range"] = round(hits / len(named), 2)
    return found


def interval(hits: int, runs: int) -> list[float]:
    """Return the ends of Wilson's interval for a share."""
    share, spread = hits / runs, SURE**2 / runs
    half = SURE * math.sqrt(share * (1 - share) / runs + spread / (4 * runs))
    middle = share + spread / 2
    ends = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return [round(max(end, 0.0), 3) for end in ends]

"""Whether a set looks poisoned, for data of which nobody knows the truth; or that nobody can tell.

Poison that changes labels has one label, the target, and comes from all other classes. So where
the ranking of the suspects is good for anything, its top holds samples of one given label, far
more than the class's share of all samples, and the model itself gives them many different labels.
Two classes that are hard to tell apart look different: there the top holds one given label too
(digits, without poison: 25 samples labelled 9), but the model's own label is the same for nearly
all of them (4). So it counts how densely a class stands there once its most frequent own label is
left out. A backdoor that starts from one class only is not told from such a confusion; then the
verdict is `cannot_tell`. Where the lines are drawn comes from runs on clean and on poisoned sets:
`thresholds.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from report.findings import Findings, from_the_worst

VERDICT_FILE = "verdict.json"
THRESHOLDS = Path(__file__).with_name("thresholds.json")
Name = Literal["poisoned", "no_sign", "cannot_tell"]
EXIT_CODES: dict[str, int] = {"no_sign": 0, "poisoned": 3, "cannot_tell": 4}
FEWEST = 16  # suspects; fewer say nothing about how densely a class stands among them
WIDTH = 3.0  # standard errors between a share and the bound that it is surely above
GROWTH = 1.1  # of the length of the list, from one look at it to the next


@dataclass(frozen=True)
class Verdict:
    """What a run says of a data set as a whole.

    Attributes:
        name: `poisoned`, `no_sign` (of poison), or `cannot_tell`.
        suspected_target: the class that the poison is labelled with, by name; None unless
            `poisoned`.
        estimated_poisoned: about how many samples are poisoned; 0 unless `poisoned`.
        statistics: the numbers behind it, by name, and the thresholds they are held against.
        reasons: sentences for a reader.
    """

    name: Name
    suspected_target: str | None
    estimated_poisoned: int
    statistics: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what to say of it on the console."""
        said = {"no_sign": "no sign of poison", "cannot_tell": "cannot tell"}
        found = f"poisoned, about {self.estimated_poisoned} samples labelled "
        first = said.get(self.name) or f"{found}{self.suspected_target!r}"
        return [f"verdict: {first}", *(f"  {reason}" for reason in self.reasons)]

    def as_result(self) -> dict[str, Any]:
        """Return its part of `result.json`."""
        return {
            "verdict": self.name,
            "suspected_target": self.suspected_target,
            "estimated_poisoned": self.estimated_poisoned,
        }


@dataclass(frozen=True)
class Concentration:
    """The class that stands most densely at the top of the suspects.

    Attributes:
        label: the class.
        excess: 0..1; 0: as its share of all samples would have it, 1: nothing else is there. It is
            a lower bound, so that a short list cannot reach 1 by chance.
        first: how many suspects that is seen in.
        share: of that class among them.
    """

    label: int
    excess: float
    first: int
    share: float


def concentration(
    against: Tensor, labels: Tensor, predicted: Tensor, num_classes: int, leave_one_out: bool
) -> Concentration:
    """Return how densely one class stands at the top of the suspects.

    The suspects are those to which the model itself gives another label.

    Args:
        against: (N,) float, what speaks against each sample; high is suspicious, and a sample with
            -infinity does not count.
        labels: (N,) int64, given labels.
        predicted: (N,) int64, the model's own labels.
        num_classes: number of classes, C.
        leave_one_out: leave out, for each class, its suspects with the most frequent own label.
    """
    order = from_the_worst(against)
    order = order[(predicted[order] != labels[order]) & against[order].isfinite()]
    usual = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    best = Concentration(0, 0.0, 0, 0.0)
    for first in lengths(min(len(order), len(labels) // 4)):
        top = order[:first]
        pairs = torch.bincount(labels[top] * num_classes + predicted[top], minlength=num_classes**2)
        apart = pairs.reshape(num_classes, num_classes)  # (given, own)
        left_out = apart.amax(dim=1) if leave_one_out else torch.zeros_like(usual)
        among = (first - left_out).clamp_min(1).double()
        share = (apart.sum(dim=1) - left_out) / among
        excess = (surely_above(share, among) - usual) / (1 - usual).clamp_min(1e-9)
        label = int(excess.argmax())
        if float(excess[label]) > best.excess:
            best = Concentration(label, float(excess[label]), first, float(share[label]))
    return best


def lengths(longest: int) -> list[int]:
    """Return how many of the first suspects are looked at, from `FEWEST` to `longest`."""
    found = []
    first = FEWEST
    while first < longest:
        found.append(first)
        first = max(first + 1, int(first * GROWTH))
    return [*found, longest] if longest >= FEWEST else []


def surely_above(share: Tensor, count: Tensor) -> Tensor:
    """Return the lower ends of Wilson's intervals for shares seen in `count` samples."""
    spread = WIDTH**2 / count
    middle = share + spread / 2
    half = WIDTH * (share * (1 - share) / count + spread / (4 * count)).sqrt()
    return (middle - half) / (1 + spread)


def estimate_poisoned(labels: Tensor, predicted: Tensor, target: int, num_classes: int) -> int:
    """Return about how many samples with the label `target` are poisoned.

    Poison comes from all other classes alike. So as many samples of the target as have a usual own
    label count once for each other class, less what is usual in the other classes. A median, since
    the samples of a few classes that look like the target are more, without any poison.

    Args:
        labels: (N,) int64, given labels.
        predicted: (N,) int64, the model's own labels.
        target: the suspected target class.
        num_classes: number of classes.
    """
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    apart = pairs.reshape(num_classes, num_classes).double()
    apart.fill_diagonal_(torch.nan)
    usual = apart.nanmedian(dim=1).values  # (num_classes,), of each given label
    others = torch.arange(num_classes) != target
    return round(max(float(usual[target] - usual[others].median()), 0.0) * (num_classes - 1))


def judge(findings: Findings, seeds_checked: bool) -> Verdict:
    """Return the verdict on the training set.

    Classes that the run has lost are left aside: it contradicts all their samples.

    Args:
        findings: what is known of each sample; the truth in it is not read.
        seeds_checked: whether a person, or the truth of a benchmark, vouches for the seeds.
    """
    limits = read_thresholds()
    labels, classes = findings.training.labels.cpu(), findings.training.classes
    predicted, lost = findings.opinion.predicted, findings.lost_classes
    against = findings.contradiction.masked_fill(
        torch.isin(labels, torch.tensor(lost, dtype=torch.long)), -torch.inf
    )
    broad = concentration(against, labels, predicted, len(classes), leave_one_out=True)
    dense = concentration(against, labels, predicted, len(classes), leave_one_out=False)
    agreement = float((predicted == labels).double().mean())
    statistics = {
        "broad_concentration": broad.excess,
        "concentration": dense.excess,
        "agreement": agreement,
        **limits,
    }
    if broad.excess >= limits["poisoned_from"] and agreement >= limits["accuse_from"]:
        target = classes[broad.label]
        count = estimate_poisoned(labels, predicted, broad.label, len(classes))
        reasons = (
            f"{told(broad, labels, target)} (those with its most frequent own label left aside)",
            "the model gives them many different labels, as poison from all classes has it",
        )
        return Verdict("poisoned", target, count, statistics, reasons)
    doubts = [*unseen(findings, seeds_checked), *unsure(dense, agreement, findings, limits)]
    if doubts:
        return Verdict("cannot_tell", None, 0, statistics, tuple(doubts))
    return Verdict("no_sign", None, 0, statistics, ("no class stands out among the suspects",))


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
    dense: Concentration, agreement: float, findings: Findings, limits: dict[str, float]
) -> list[str]:
    """Return why what the model contradicts is no evidence, neither way."""
    found = []
    if dense.excess > limits["no_sign_to"]:
        name = findings.training.classes[dense.label]
        found.append(
            f"{told(dense, findings.training.labels.cpu(), name)}; nearly all look like one other "
            f"class, so it may be a confusion of two classes, or a backdoor that starts from one"
        )
    if agreement < limits["agreement_from"]:
        found.append(
            f"the model gives only {agreement:.0%} of the samples their given label by itself; "
            f"below {limits['agreement_from']:.0%} its suspicion means little"
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


def read_verdict(result: Path) -> Verdict | None:
    """Return the verdict in a finished run's `result.json`; None where there is none."""
    try:
        found = json.loads(result.read_text(encoding="utf-8"))
        return Verdict(
            found["verdict"], found["suspected_target"], int(found["estimated_poisoned"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def exit_code(verdict: Verdict | None) -> int:
    """Return the exit code of `--fail-on-suspicion`: 0, 3 (poisoned) or 4 (cannot tell)."""
    return EXIT_CODES["cannot_tell" if verdict is None else verdict.name]

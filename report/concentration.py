"""How densely given labels stand among the samples that the model contradicts.

Poison that changes labels has few labels, its targets, and comes from many classes. So where the
ranking of the suspects is good for anything, its top holds samples of these labels, far more than
the classes' shares of all samples, and the model itself gives them many different labels. With
several targets each stands out once the others are set aside.

All of this is a function of the set of samples: equal samples are looked at together or not at all,
and neither the order of the samples nor the numbers of the classes matter. Where two classes stand
equally densely, their names decide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

FEWEST = 8  # suspects; fewer say nothing about how densely a class stands among them
WIDTH = 2.5  # standard errors between a share and the bound that it is surely above
GROWTH = 1.15  # of the length of the list, from one look at it to the next
MOST_TARGETS = 3  # that are looked for at once
PEERS = 3  # classes for each suspected target, that it is held against


@dataclass(frozen=True)
class Concentration:
    """How densely one class stands at the top of the suspects.

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


@dataclass(frozen=True)
class Suspects:
    """What the model says of N samples, for all questions about the top of the suspects.

    Attributes:
        against: (N,) float, what speaks against each sample; high is suspicious, and a sample with
            -infinity does not count.
        labels: (N,) int64, given labels.
        predicted: (N,) int64, the model's own labels.
        names: of the classes.
    """

    against: Tensor
    labels: Tensor
    predicted: Tensor
    names: Sequence[str]

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.names)

    def counted(self, aside: Collection[int]) -> tuple[Tensor, Tensor]:
        """Return which samples count, (N,) bool, and each class's share of them, (C,) float64.

        Args:
            aside: classes of which no sample counts.
        """
        away = torch.tensor(sorted(aside), dtype=torch.int64)
        counted = self.against.isfinite() & ~torch.isin(self.labels, away)
        sizes = torch.bincount(self.labels[counted], minlength=self.num_classes).double()
        return counted, sizes / sizes.sum().clamp_min(1)

    def looks(self, counted: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Look at the first suspects, at ever more of them, never ending between equals.

        A suspect is a sample to which the model gives another label.

        Args:
            counted: (N,) bool, the samples that count.

        Yields:
            How many are looked at; (C,) float64, how many of these have each given label; and
            (C,) float64, how many of those the label's most frequent own label has.
        """
        chosen = torch.nonzero(counted & (self.predicted != self.labels)).flatten()
        values, order = self.against[chosen].sort(descending=True)
        chosen, classes, before = chosen[order], self.num_classes, 0
        # Of the pairs of labels only those that occur: of thousands of classes most do not.
        cells, at = (self.labels * classes + self.predicted)[chosen].unique(return_inverse=True)
        given, counts = cells // classes, torch.zeros(len(cells), dtype=torch.float64)
        nothing = torch.zeros(classes, dtype=torch.float64)
        for first in lengths(values, int(counted.sum()) // 4):
            counts += torch.bincount(at[before:first], minlength=len(cells))
            before = first
            most = nothing.scatter_reduce(0, given, counts, "amax")
            yield first, nothing.index_add(0, given, counts), most


def concentrations(
    suspects: Suspects, leave_one_out: bool, aside: Collection[int] = ()
) -> list[Concentration]:
    """Return how densely each class stands at the top of the suspects, the densest first.

    Args:
        suspects: what the model says.
        leave_one_out: leave out, for each class, its suspects with the most frequent own label.
        aside: classes of which no sample counts.
    """
    counted, usual = suspects.counted(aside)
    nothing = torch.zeros_like(usual)
    firsts, seen, largest = zip((0, nothing, nothing), *suspects.looks(counted), strict=True)
    left_out = torch.stack(largest) * leave_one_out  # (looks, C)
    among = (torch.tensor(firsts)[:, None] - left_out).clamp_min(1)
    shares = (torch.stack(seen) - left_out) / among
    excess = (surely_above(shares, among) - usual) / (1 - usual).clamp_min(1e-9)
    excess[0] = 0  # before the first look
    best = excess.argmax(dim=0)  # (C,), of equal ones the shortest
    found = [
        Concentration(label, float(excess[at, label]), firsts[at], float(shares[at, label]))
        for label, at in enumerate(best.tolist())
        if label not in aside
    ]
    return densest_first(found, suspects)


def jointly(suspects: Suspects, aside: Collection[int]) -> float:
    """Return how densely up to three classes together stand at the top of the suspects, 0..1.

    The share of all of them, where `groups_of` asks for each without the others: so a handful of
    samples with two or three labels shows, though it may be chance. At each look they are the
    classes with the most samples beyond their usual number.

    Args:
        suspects: what the model says.
        aside: classes of which no sample counts.
    """
    counted, usual = suspects.counted(aside)
    found = 0.0
    for first, seen, largest in suspects.looks(counted):
        apart = seen - largest
        order = (apart - first * usual).sort(descending=True).indices
        for size in range(1, most_targets(suspects.num_classes - len(aside)) + 1):
            chosen = order[:size]
            among = (first - largest[chosen].sum()).clamp_min(1)
            above = surely_above(apart[chosen].sum() / among, among)
            expected = float(total(usual[chosen]))
            found = max(found, (float(above) - expected) / max(1 - expected, 1e-9))
    return found


def total(values: Tensor) -> Tensor:
    """Return the sums of (..., n), to the last bit the same in any order of the values."""
    return values.sort(dim=-1).values.sum(dim=-1)


def densest_first(found: list[Concentration], suspects: Suspects) -> list[Concentration]:
    """Return them sorted; equally dense ones by name."""
    return sorted(found, key=lambda one: (-one.excess, suspects.names[one.label]))


def lengths(values: Tensor, longest: int) -> list[int]:
    """Return how many of the first suspects are looked at, each once.

    From `FEWEST` on ever more, to `longest` or all; where that would part equals, up to the last of
    them.

    Args:
        values: (n,) what speaks against the suspects, falling.
        longest: how many are looked at.
    """
    last = torch.ones(len(values), dtype=torch.bool)
    last[:-1] = values[:-1] != values[1:]
    ends = torch.nonzero(last).flatten() + 1
    longest, first = min(longest, len(values)), FEWEST
    wanted = [longest] if longest >= FEWEST else []
    while first < longest:
        wanted.append(first)
        first = max(first + 1, int(first * GROWTH))
    places = torch.searchsorted(ends, torch.tensor(sorted(wanted), dtype=torch.int64))
    return ends[places].unique().tolist()


def surely_above(share: Tensor, count: Tensor) -> Tensor:
    """Return the lower ends of Wilson's intervals for shares seen in `count` samples."""
    spread = WIDTH**2 / count
    middle = share + spread / 2
    half = WIDTH * (share * (1 - share) / count + spread / (4 * count)).sqrt()
    return (middle - half) / (1 + spread)


def stand_out(
    suspects: Suspects, aside: Collection[int], from_excess: float
) -> tuple[Concentration, ...]:
    """Return the classes that stand out at the top of the suspects, the densest first.

    Of the groups (see `groups_of`) in which even the least dense class reaches `from_excess` it is
    the largest; where none does, the one whose least dense class comes closest.

    Args:
        suspects: what the model says.
        aside: classes of which no sample counts.
        from_excess: 0..1, from which on a class stands out.

    Returns:
        The classes; none where all are set aside.
    """
    groups = groups_of(suspects, aside)
    reached = [group for group in groups if group[-1].excess >= from_excess]
    return reached[-1] if reached else max(groups, key=lambda group: group[-1].excess, default=())


def groups_of(suspects: Suspects, aside: Collection[int]) -> list[tuple[Concentration, ...]]:
    """Return the densest class, the two densest and the three densest ones, as far as there are.

    Each is as dense as it stands among the samples of all classes but the others of its group. Own
    labels that are the most frequent for a class are left out, so a confusion of two classes does
    not count.
    """

    @cache
    def without(others: frozenset[int]) -> list[Concentration]:
        return concentrations(suspects, True, {*aside, *others})

    groups, chosen = [], frozenset[int]()
    for _ in range(most_targets(suspects.num_classes - len(aside))):
        chosen |= {one.label for one in without(chosen)[:1]}
        members = [one for c in chosen for one in without(chosen - {c}) if one.label == c]
        groups.append(tuple(densest_first(members, suspects)))
    return [group for group in groups if group]


def most_targets(num_classes: int) -> int:
    """Return how many targets can be told together: enough other classes must be left."""
    return max(1, min(MOST_TARGETS, (num_classes - 1) // PEERS))

"""A pattern at a fixed place that a few images of one label share, and hardly any of the others.

`pattern` holds each image against the mean of its label, which shows a trigger that is in a fifth
of the label's images or is strong. Of one that is weak and in a twelfth of them, that mean holds
too little. Here the few that are most like each other are looked for: the images that are most
like the mean are held against the mean of the rest, and again, until the same ones come out.

Chance finds such a group in any label, so each half of the label's images is divided by the pattern
that the other half has shown, and both halves must have shown the same one. Photographs with a
frame are such a group, too. They are found in all labels; a trigger is in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from utils.robust import MAD_TO_SIGMA, robust_deviation
from utils.section import Section
from witness.line import Charges, Line, divide_line
from witness.pattern import CHUNK, rough, rough_total
from witness.witness import Case, Statement, Witness

FEWEST = 200  # images of a label, about; in each half of them one in twenty must be a few
FEW = 0.05  # of the images that show the pattern, those that are held against the rest
ROUNDS = 5  # of looking for them; it stops where they stand
NEAR = 2.0  # deviations, within which an image of such a label counts as one without pattern
COST = 1.0  # of a pass: some looks at all images, without a network
KEPT = 2**27  # numbers of one label that are kept (512 MB); of more, each look makes them anew


@dataclass(frozen=True)
class Shared:
    """What a few images of a label share.

    Attributes:
        line: the label's images, divided by it.
        agreement: cosine of the patterns that the two halves have shown.
        looks: how each half is asked, by the pattern that the other one has shown.
        like: (n,) float64, what was divided.
    """

    line: Line
    agreement: float
    looks: Sequence[Look]
    like: Tensor

    def lift(self, others: Rough) -> float:
        """Return how many times as frequent it is in the label as in the images of the others."""
        high = self.line.high > 0.5
        cut = self.like[high].min() if bool(high.any()) else self.like.max()
        found = [(look.ask(others) >= cut).double().mean() for look in self.looks]
        return self.line.share / max(float(torch.stack(found).mean()), 1e-4)


@dataclass(frozen=True)
class Look:
    """How much of a pattern (D,) is in images, in robust deviations of those first asked."""

    pattern: Tensor
    middle: Tensor
    unit: Tensor

    def ask(self, images: Rough) -> Tensor:
        """Return (n,) float64."""
        return self.in_units(images.along(self.pattern))

    def in_units(self, found: Tensor) -> Tensor:
        """Return how much of the pattern was `found` (n,), in these deviations."""
        return (found - self.middle) / self.unit


class RarePattern(Witness):
    """Accuses labels of which a few images share a pattern; vetoes these."""

    sees = ("clean_label",)

    class Settings(Section):
        """What it takes to veto.

        `agreement`: cosine of the patterns of the two halves. `separation`: of the two groups, in
        standard deviations; from `accusing` on the witness stakes its name on it. `lift`: how many
        times as frequent the pattern must be in the label as in the others. `verified`: share of
        the verified samples that may have it. `largest`: share of the label that may have it.
        """

        agreement: float = Field(default=0.4, ge=-1, le=1)
        separation: float = Field(default=3.6, gt=0)
        accusing: float = Field(default=6.0, gt=0)
        lift: float = Field(default=4.0, gt=0)
        verified: float = Field(default=0.15, ge=0, lt=1)
        largest: float = Field(default=0.5, gt=0, le=1)

    settings: RarePattern.Settings

    def testify(self, case: Case) -> Statement:
        """Look for a few images of each label that share what the other labels do not."""
        charges, looked_at, verified = Charges(case, NEAR), set[int](), case.verified
        images = case.ground.training.images
        mean = mean_of(images)
        for label in range(case.num_classes):
            own = case.labels == label
            members, others = torch.nonzero(own).flatten(), torch.nonzero(~own).flatten()
            odd = is_odd(images[members])
            if len(others) < FEWEST or min(int(odd.sum()), int((~odd).sum())) < FEWEST // 3:
                continue
            looked_at.add(label)
            shared = find_shared(images, members, odd, mean)
            if (
                self.holds(shared, verified[members])
                and shared.lift(Rough(images, others, mean)) >= self.settings.lift
            ):
                charges.accuse(label, members, shared.line, self.settings.accusing)
        return charges.statement(COST, looked_at)

    def holds(self, shared: Shared, verified: Tensor) -> bool:
        """Return whether the label's own images show a trigger; `verified`: (n,) bool."""
        limits = self.settings
        return (
            shared.agreement >= limits.agreement
            and shared.line.separation >= limits.separation
            and shared.line.share <= limits.largest
            and (shared.line.share_of_verified(verified) or 0.0) <= limits.verified
        )


class Rough:
    """Some images without what is smooth, and without what all images share.

    Args:
        images: (N, H, W, 3) uint8.
        members: (n,) int64, which.
        mean: (D,) float64, of all.
    """

    def __init__(self, images: Tensor, members: Tensor, mean: Tensor) -> None:
        self.images, self.members, self.mean = images, members, mean
        self._kept: list[Tensor] | None = None
        if len(members) * len(mean) <= KEPT:
            self._kept = [rough(images[part]) for part in members.split(CHUNK)]

    def __len__(self) -> int:
        return len(self.members)

    def parts(self) -> Iterator[Tensor]:
        """Yield (b, D) float64, in order."""
        made = (rough(self.images[part]) for part in self.members.split(CHUNK))
        for part in made if self._kept is None else self._kept:
            yield part.double() - self.mean

    def along(self, direction: Tensor) -> Tensor:
        """Return (n,) float64, how much of `direction` (D,) is in each."""
        return torch.cat([part @ direction for part in self.parts()])

    def weighted(self, weights: Tensor) -> Tensor:
        """Return (D,) float64, the sum of all, each times its weight; `weights`: (n,)."""
        pairs = zip(self.parts(), weights.split(CHUNK), strict=True)
        return torch.stack([weight @ part for part, weight in pairs]).sum(dim=0)

    def squares(self) -> Tensor:
        """Return (n,) float64, the squared length of each."""
        return torch.cat([part.pow(2).sum(dim=1) for part in self.parts()])


def mean_of(images: Tensor) -> Tensor:
    """Return the mean of all images without what is smooth, (D,) float64."""
    return rough_total(images, torch.arange(len(images))) / len(images)


def is_odd(images: Tensor) -> Tensor:
    """Return (n,) bool, which half each is in: by the image alone, so no order matters."""
    return images.flatten(1).sum(dim=1).cpu() % 2 == 1


def find_shared(images: Tensor, members: Tensor, odd: Tensor, mean: Tensor) -> Shared:
    """Return what a few of the `members` (n,) of a label share; `odd`: (n,), their halves."""
    halves = [Rough(images, members[half], mean) for half in (odd, ~odd)]
    patterns = [shown_pattern(half) for half in halves]
    like, looks = torch.zeros(len(members), dtype=torch.double), []
    for place, half, pattern in zip((odd, ~odd), halves, reversed(patterns), strict=True):
        found = half.along(pattern)
        middle = found.median()
        unit = robust_deviation(found - middle).clamp_min(MAD_TO_SIGMA * 1e-12)
        looks.append(Look(pattern, middle, unit))
        like[place] = looks[-1].in_units(found)
    return Shared(divide_line(like), float(patterns[0] @ patterns[1]), looks, like)


def shown_pattern(half: Rough) -> Tensor:
    """Return what the few images that are most like each other have in common, (D,) of length 1."""
    count, squares = len(half), half.squares()
    few = max(int(FEW * count), 8)
    like = half.along(half.weighted(torch.ones(count, dtype=torch.double))) - squares
    chosen = torch.zeros(count, dtype=torch.bool)
    for _ in range(ROUNDS):
        before, chosen = chosen, torch.zeros(count, dtype=torch.bool)
        chosen[like.topk(few).indices] = True
        if bool((chosen == before).all()):
            break
        weights = torch.where(chosen, 1 / few, -1 / (count - few)).double()
        pattern = half.weighted(weights)
        like = half.along(pattern) - weights * squares  # without what each is to itself
    return pattern / pattern.norm().clamp_min(1e-12)

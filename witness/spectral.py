"""Spread that the verified samples do not have (after SPECTRE, Hayase et al., ICML 2021).

Poison stretches its class, in the features of the plain model, along directions in which clean
samples hardly differ. How these differ is known from the verified ones: each class has a centre of
its own; the spread around the centres is pooled over the classes, since ten samples are too few
for a covariance. In units of that spread a sample's score is how far it lies from its centre,
directions weighted by how far the class reaches along them (quantum entropy). A class is accused
where it reaches much farther than the other classes do. Written anew.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from utils.section import Section
from witness.line import Line, divide_line
from witness.witness import FEWEST, FEWEST_VERIFIED, Case, Statement, Witness, deviations

ENTROPY = 4.0  # weight of a class's longest direction against its others; 0: all weigh the same
FEWEST_OTHERS = 2  # classes, that tell how far one usually reaches
SHRINKAGE = 0.3  # share of a round covariance that is mixed into the pooled one


@dataclass(frozen=True)
class Stretch:
    """How far the samples of a class reach, in units of the clean spread.

    Attributes:
        members: (n,) int64, the samples of the class.
        scores: (n,) float64, the distance from the centre, squared, directions weighted.
        along: (n,) float64, the place along the longest direction; high is where most lie out.
        length: variance along it; 1 is that of the verified samples.
    """

    members: Tensor
    scores: Tensor
    along: Tensor
    length: float

    @cached_property
    def line(self) -> Line:
        """The class divided in two along the longest direction."""
        return divide_line(self.along)

    @property
    def far(self) -> Tensor:
        """(n,) bool, the farther one of the two groups."""
        return self.line.high > 0.5

    @property
    def reach(self) -> float:
        """How far the farther group lies from the verified samples; 0 where there is none."""
        return float(self.along[self.far].mean()) if bool(self.far.any()) else 0.0


class SpectralScore(Witness):
    """Suspects what lies where no verified sample does; vetoes it in classes that stand out."""

    sees = ("clean_label", "one_source", "learnt")

    class Settings(Section):
        """What it takes to accuse.

        `lead`: of the variance along a class's longest direction over the median of the other
        classes'. Of few samples it is small however far they lie. So a class is accused, too, whose
        groups are `separation` standard deviations apart, the far one at `lead` times the squared
        distance of the others' far groups. `verified`: share of the class's verified samples that
        may lie in the far group. `largest`: share of the class that this may take.
        """

        lead: float = Field(default=4.0, gt=1)
        separation: float = Field(default=5.0, gt=0)
        verified: float = Field(default=0.15, ge=0, lt=1)
        largest: float = Field(default=0.75, gt=0, le=1)

    def testify(self, case: Case) -> Statement:
        """Score every sample within its class; veto the far groups of classes that stand out."""
        points = whitened(case)
        found = {label: stretch(points, case.labels == label) for label in range(case.num_classes)}
        classes = {label: one for label, one in found.items() if one is not None}
        scores = torch.ones(len(case.labels), dtype=torch.double)
        vetoed = torch.zeros(len(case.labels), dtype=torch.bool)
        accused: dict[int, float] = {}
        for label, one in classes.items():
            scores[one.members] = one.scores
            others = [other for name, other in classes.items() if name != label]
            if self.accuses(one, others, case.verified):
                accused[label] = min(1.0, one.line.separation / (2 * self.settings.separation))
                vetoed[one.members] = one.far & ~case.verified[one.members]
        looked_at = frozenset(
            label for label, one in classes.items() if self.can_tell(case.verified[one.members])
        )
        suspicion = deviations(scores.clamp_min(1e-9).log())
        looked_at = looked_at if len(classes) > FEWEST_OTHERS else frozenset()
        return Statement(suspicion, vetoed, accused, looked_at=looked_at)

    settings: SpectralScore.Settings

    @staticmethod
    def can_tell(verified: Tensor) -> bool:
        """Return whether a class is large and known enough; `verified`: of its samples, (n,)."""
        return len(verified) >= FEWEST and int(verified.sum()) >= FEWEST_VERIFIED

    def accuses(self, one: Stretch, others: list[Stretch], verified: Tensor) -> bool:
        """Return whether a class stands out from the `others`; `verified`: (N,) bool."""
        own, limits = verified[one.members], self.settings
        if len(others) < FEWEST_OTHERS or not self.can_tell(own):
            return False
        usual = statistics.median(other.length for other in others)
        distance = statistics.median(other.reach for other in others)
        long = one.length >= limits.lead * usual
        apart = one.line.separation >= limits.separation
        apart &= one.reach >= limits.lead**0.5 * distance
        return (
            (long or apart)
            and float(one.far[own].double().mean()) <= limits.verified
            and 0 < float(one.far.double().mean()) <= limits.largest
        )


def whitened(case: Case) -> Tensor:
    """Return the features (N, F), float64, around their classes' centres in clean units."""
    points, labels, count = case.reference.features.double(), case.labels, case.num_classes
    clean = case.verified
    # Where a class has too few verified samples, all of all classes stand for the clean ones.
    if int(torch.bincount(labels[clean], minlength=count).min()) < FEWEST_VERIFIED:
        clean = torch.ones_like(clean)
    points = points / points.std(dim=0).clamp_min(1e-9)
    chosen = functional.one_hot(labels[clean], count).double()
    centres = (chosen.t() @ points[clean]) / chosen.sum(dim=0)[:, None].clamp_min(1)
    points = points - centres[labels]
    rest = points[clean]
    spread = rest.t() @ rest / max(1, len(rest) - count)
    round_ = spread.diagonal().mean().clamp_min(1e-9) * torch.eye(len(spread), dtype=spread.dtype)
    spread = (1 - SHRINKAGE) * spread + SHRINKAGE * round_
    root = torch.linalg.cholesky(spread)
    return torch.linalg.solve_triangular(root, points.t(), upper=False).t()


def stretch(points: Tensor, chosen: Tensor) -> Stretch | None:
    """Return how far the chosen samples, (N,) bool, of `points` (N, F) reach; None of fewer than 2.

    The weights of the directions are those of quantum entropy scoring.
    """
    members = torch.nonzero(chosen).flatten()
    if len(members) < 2:
        return None
    own = points[members]
    lengths, directions = torch.linalg.eigh(own.t() @ own / len(own))  # the longest comes last
    longest = lengths[-1]
    weights = (ENTROPY * (lengths - longest) / (longest - 1).clamp_min(1e-9)).exp()
    places = own @ directions
    scores = (places**2 * weights).sum(dim=1) / weights.sum()
    sign = 1 if float(places[:, -1].mean()) >= 0 else -1
    return Stretch(members, scores, sign * places[:, -1], float(longest))

"""A group within a class to which none of the verified samples belongs.

The plain model holds poison and clean samples of one label apart in its features: it knows them by
different signs. The verified samples are clean, so they all lie in one of the two groups. Within
each given label this looks for the direction (a regularised linear discriminant, Fisher 1936) that
leads away from the verified samples, divides the class in two along it, and refines both. The
class is accused where the groups lie far apart, hardly a verified sample is in the far one, and
that one was learnt earlier: a trigger is easier than what it stands for. It asks nothing of labels
or of how images look, so clean-label and invisible triggers are seen like others.

Where no sample is verified, the far group is the one that was learnt earlier. Then only its whole
strength accuses, and only a group that was learnt earlier than the other classes usually are, since
nothing tells easy clean samples from poison: beside poison that is learnt late they come first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from utils.section import Section
from witness.witness import FEWEST, FEWEST_VERIFIED, USUAL, Case, Statement, Witness

NEAR = 2.0  # deviations, within which a sample of an accused class counts as of the clean group
ROUNDS = 30  # of refining; it stops where it stands
RIDGE = 0.02  # of the mean variance of a feature, added to all
FIRST_SHARES = (0.2, 0.5)  # of a class, first guesses of how large the far group is
ENOUGH = 2  # samples of a class for each feature; below, fewer directions are looked at
FEW_DIRECTIONS = 4  # samples for each of these
EARLY = 0.34  # share of the epochs that count as early
APART = 1.7  # times the other classes' median separation, from which on a far group stands alone
EARLIER = 0.1  # earliness that it must have then


@dataclass(frozen=True)
class Groups:
    """A class divided in two.

    Attributes:
        far: (n,) float64, 0..1, how much each sample belongs to the group away from the seeds.
        separation: between the groups' means, in standard deviations within them.
        verified: mean of `far` over the verified samples; NaN where there are none.
        earliness: by how much earlier the far group was learnt: 1 less the ratio of the groups'
            mean early losses; 0: as early, 1: at once.
        far_loss: mean early loss of the far group.
        whole_loss: of the class.
    """

    far: Tensor
    separation: float
    verified: float
    earliness: float
    far_loss: float
    whole_loss: float

    @property
    def is_checked(self) -> bool:
        """Whether there are verified samples that tell which group is the far one."""
        return not math.isnan(self.verified)

    @property
    def distance(self) -> Tensor:
        """(n,) float64, how far each sample lies from the verified ones' group, in deviations."""
        share = self.far.mean().clamp(1e-3, 1 - 1e-3)
        odds = torch.logit(self.far.clamp(1e-300, 1 - 1e-16)) - torch.logit(share)
        return self.separation / 2 + odds / max(self.separation, 1e-9)

    @property
    def strength(self) -> float:
        """How much the far group looks like poison: far, and early."""
        return self.separation * max(self.earliness, 0.0)


class UnverifiedGroup(Witness):
    """Accuses classes, and vetoes their far groups."""

    sees = ("clean_label", "one_source", "learnt")
    asked_for_seeds = True

    class Settings(Section):
        """What it takes to accuse.

        `strength`: of the far group, its separation in standard deviations times its earliness.
        Half of it is enough where it is `lead` times the median of the other classes': on easy data
        all clean samples are learnt early too, so a trigger is hardly earlier.
        `separation`: from there on it need only be a little earlier, unless the far groups of the
        other classes lie as far away: few poisoned samples are not learnt at once.
        `verified`: share of the verified samples that may lie in it. `largest`: share of the class
        that it may take.
        """

        strength: float = Field(default=2.5, gt=0)
        lead: float = Field(default=3.0, ge=1)
        separation: float = Field(default=6.0, gt=0)
        verified: float = Field(default=0.15, ge=0, lt=1)
        largest: float = Field(default=0.75, gt=0, le=1)

    settings: UnverifiedGroup.Settings

    def testify(self, case: Case) -> Statement:
        """Divide every class; veto the far groups of those that are accused."""
        count = len(case.labels)
        suspicion, vetoed = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
        accused: dict[int, float] = {}
        divided = divisions(case)
        for label, groups in divided.items():
            members = torch.nonzero(case.labels == label).flatten()
            suspicion[members] = groups.far.float() * groups.strength
            others = [other for name, other in divided.items() if name != label]
            if self.accuses(groups, others):
                accused[label] = self.surety(groups, others)
                # A few left behind would teach the trigger to the rest; a clean one is no loss.
                far = (groups.far > 0.5) | (groups.distance > NEAR)
                vetoed[members] = far & ~case.verified[members]
        suspicion = torch.where(vetoed, suspicion + USUAL, suspicion.clamp_max(USUAL))
        return Statement(suspicion, vetoed, accused, looked_at=frozenset(divided))

    def accuses(self, groups: Groups, others: Sequence[Groups]) -> bool:
        """Return whether a class so divided is held to be poisoned; `others`: those beside it."""
        limits = self.settings
        return (
            (self.is_early(groups, others) or self.stands_alone(groups, others))
            and not groups.verified > limits.verified
            and float((groups.far > 0.5).double().mean()) <= limits.largest
        )

    def surety(self, groups: Groups, others: Sequence[Groups]) -> float:
        """Return how surely an accused class is poisoned, 0..1; half at the limits."""
        limits = self.settings
        alone = groups.separation / limits.separation if self.stands_alone(groups, others) else 0.0
        return min(1.0, max(groups.strength / limits.strength, alone) / 2)

    def is_early(self, groups: Groups, others: Sequence[Groups]) -> bool:
        """Return whether the far group is far, and learnt early, beyond what is usual."""
        limits = self.settings
        if groups.is_checked:
            usual = statistics.median(other.strength for other in others or [groups])
            leads = groups.strength >= limits.lead * usual
            return groups.strength >= (limits.strength / 2 if leads else limits.strength)
        moment = statistics.median(other.whole_loss for other in others or [groups])
        return groups.strength >= limits.strength and groups.far_loss < moment

    def stands_alone(self, groups: Groups, others: Sequence[Groups]) -> bool:
        """Return whether the far group is very far, and at least a little earlier."""
        limits = self.settings
        usual = statistics.median(other.separation for other in others or [groups])
        apart = groups.separation >= max(limits.separation, APART * usual)
        return apart and groups.is_checked and groups.earliness >= EARLIER


def early_losses(losses: Tensor) -> Tensor:
    """Return the mean (N,) over the early epochs of losses (E, N)."""
    return losses[: max(1, round(EARLY * len(losses)))].double().mean(dim=0)


def divisions(case: Case) -> dict[int, Groups]:
    """Return each class divided in two, by its label; without those that are too small."""
    verified, early = case.verified, early_losses(case.reference.losses)
    divided: dict[int, Groups] = {}
    for label in range(case.num_classes):
        members = torch.nonzero(case.labels == label).flatten()
        features = case.reference.features[members]
        groups = best_division(features, verified[members], early[members])
        if groups is not None:
            divided[label] = groups
    return divided


def best_division(features: Tensor, verified: Tensor, early: Tensor) -> Groups | None:
    """Return the division of a class that is the most telling, from several beginnings; or None.

    Args:
        features: (n, F) of the samples of one given label.
        verified: (n,) bool; too few of them count as none.
        early: (n,) their early losses.
    """
    if len(features) < FEWEST:
        return None
    if int(verified.sum()) < FEWEST_VERIFIED:
        verified = torch.zeros_like(verified)
    points = fewer_directions(standardised(features))
    guesses = beginnings(points, verified, early)
    found = [divide(points, guess, verified, early) for guess in guesses]
    return max(found, key=lambda one: one.strength * (1 - (one.verified if one.is_checked else 0)))


def standardised(features: Tensor) -> Tensor:
    """Return (n, F') float64: features of mean 0 and deviation 1, without those that never move."""
    points = features.double()
    points = (points - points.mean(dim=0)) / points.std(dim=0).clamp_min(1e-9)
    return points[:, features.std(dim=0) > 1e-6]


def fewer_directions(points: Tensor) -> Tensor:
    """Return points (n, F) of a small class along its main directions alone, (n, n // 4).

    In as many directions as there are samples any group can be told from any other. A group that is
    of another kind makes one of the main directions itself.
    """
    count, features = points.shape
    if count >= ENOUGH * features:
        return points
    _, _, directions = torch.linalg.svd(points, full_matrices=False)
    return standardised(points @ directions[: max(1, count // FEW_DIRECTIONS)].t())


def beginnings(points: Tensor, verified: Tensor, early: Tensor) -> list[Tensor]:
    """Return first guesses (n,) of who is far: away from the seeds, and what was learnt first."""
    found, known = [], bool(verified.any())
    projected = points @ discriminant(points, (~verified).double()) if known else early
    for share in FIRST_SHARES:
        if known:
            found.append((projected > projected.quantile(1 - share)).double())
        found.append((early < early.quantile(share)).double())
    return found


def discriminant(points: Tensor, far: Tensor) -> Tensor:
    """Return the direction (F,) that tells best who is far, of weights 0..1."""
    means, spread = [], torch.zeros(points.shape[1], points.shape[1], dtype=points.dtype)
    for weight in (far, 1 - far):
        total = weight.sum().clamp_min(1e-9)
        mean = (weight[:, None] * points).sum(dim=0) / total
        centred = points - mean
        spread += (weight[:, None] * centred).t() @ centred
        means.append(mean)
    spread /= len(points)
    ridge = RIDGE * spread.diagonal().mean().clamp_min(1e-9)
    spread += ridge * torch.eye(len(spread), dtype=spread.dtype)
    return torch.linalg.solve(spread, means[0] - means[1])


def divide(points: Tensor, far: Tensor, verified: Tensor, early: Tensor) -> Groups:
    """Refine a first guess: the best direction for the groups, then the groups along it."""
    projected = points @ discriminant(points, far)
    for _ in range(ROUNDS):
        before = far
        far = belonging(projected, far)
        projected = points @ discriminant(points, far)
        if float((far - before).abs().max()) < 1e-3:
            break
    # Which one is the far group: the one with fewer of the verified samples for its size; without
    # any, the one that was learnt earlier.
    is_near = float(far[verified].mean()) > float(far.mean())
    if is_near or (not bool(verified.any()) and earliness_of(far, early) < 0):
        far = 1 - far
    apart, seen = separation(projected, far), float(far[verified].mean())
    far_loss = float(group_means(early, far)[0])
    return Groups(far, apart, seen, earliness_of(far, early), far_loss, float(early.mean()))


def group_means(values: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of `values` (n,) over the far group and over the rest, two scalars."""
    high = (far * values).sum() / far.sum().clamp_min(1e-9)
    return high, ((1 - far) * values).sum() / (1 - far).sum().clamp_min(1e-9)


def earliness_of(far: Tensor, early: Tensor) -> float:
    """Return by how much earlier the far group was learnt; see `Groups`."""
    far_loss, near_loss = group_means(early, far)
    return 1 - float(far_loss / near_loss.clamp_min(1e-9))


def belonging(values: Tensor, far: Tensor) -> Tensor:
    """Return the posterior (n,) of the far one of two normal groups of equal spread."""
    share = far.mean().clamp(1e-3, 1 - 1e-3)
    high, low = group_means(values, far)
    variance = (far * (values - high) ** 2 + (1 - far) * (values - low) ** 2).mean()
    variance = variance.clamp_min(1e-12)
    odds = ((values - low) ** 2 - (values - high) ** 2) / (2 * variance)
    return torch.sigmoid(odds + torch.log(share / (1 - share)))


def separation(values: Tensor, far: Tensor) -> float:
    """Return the distance between two groups' means in standard deviations within them."""
    high, low = group_means(values, far)
    variance = (far * (values - high) ** 2 + (1 - far) * (values - low) ** 2).mean()
    return float((high - low).abs() / variance.clamp_min(1e-12).sqrt())

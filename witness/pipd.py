"""Channels that only poison excites (after PIPD, Chen et al., AAAI 2024; written anew).

The plain model has channels for the trigger. Samples of very low loss are taken for poison, others
for clean; channels in which the first reach far beyond the second vote, and a sample's score is
what it excites there. What scores low joins the clean ones, for some rounds. Found always divides
in two, so a gap is asked for before anything is vetoed; a high percentile stands for the maximum,
since one outlier decides a maximum.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from utils.section import Section
from witness.witness import USUAL, Case, Statement, Witness, deviations

ROUNDS = 5
POISON_SHARE = 0.01  # of all samples, those of the lowest early loss
CLEAN_SHARE = 0.2
TOP = 0.95  # percentile of the supposed poison that counts as its height
CHANNEL_SHARE = 0.03  # of the channels that vote
FEWEST = 10  # samples beyond the gap; fewer are outliers, as every set has them
FEWEST_OF_LABEL = 100  # samples of a label, of which one in a hundred can be taken for poison


class PoisonChannels(Witness):
    """Vetoes what excites the poison's channels, where a gap sets it apart."""

    asked_for_seeds = True

    class Settings(Section):
        """`gap`: robust deviations from which on a score is beyond all clean ones.

        `largest`: share of the samples that it may veto; more is no poison but a mistake. `within`:
        whether poison is looked for among all samples, as published, among those of each label, or
        both: several targets have channels of their own, which are mixed where all are looked at.
        """

        gap: float = Field(default=8.0, gt=0)
        largest: float = Field(default=0.2, gt=0, lt=1)
        within: Literal["all", "label", "both"] = "all"

    settings: PoisonChannels.Settings

    def testify(self, case: Case) -> Statement:
        """Score the samples; veto those beyond the gap unless they are too many or verified."""
        count = len(case.labels)
        suspicion, vetoed = torch.full((count,), -USUAL), torch.zeros(count, dtype=torch.bool)
        for members in self.scopes(case.labels):
            found, beyond = self.look(case, members)
            suspicion[members] = suspicion[members].maximum(found)
            vetoed[members] |= beyond
        return Statement(suspicion, vetoed, accused_of(vetoed, case.labels))

    def scopes(self, labels: Tensor) -> list[Tensor]:
        """Return the samples, each (n,) int64, among which poison is looked for."""
        labelled = [torch.nonzero(labels == label).flatten() for label in labels.unique().tolist()]
        whole = [] if self.settings.within == "label" else [torch.arange(len(labels))]
        parts = [] if self.settings.within == "all" else labelled
        return whole + [members for members in parts if len(members) >= FEWEST_OF_LABEL]

    def look(self, case: Case, members: Tensor) -> tuple[Tensor, Tensor]:
        """Return the suspicion of `members` (n,) among themselves, and which are vetoed: bool."""
        limits, verified = self.settings, case.verified[members]
        reference = case.reference
        scores = poison_scores(reference.features[members], reference.losses[:, members])
        suspicion = deviations(scores)
        beyond = (suspicion >= limits.gap) & ~verified
        # Of nobody, a mean is NaN: without verified samples nothing is sound, and it only ranks.
        seeds_beyond = float((suspicion[verified] >= limits.gap).double().mean())
        share = float(beyond.double().mean())
        enough = int(beyond.sum()) >= FEWEST
        sound = enough and share <= limits.largest and seeds_beyond <= share / 4
        return suspicion, beyond if sound else torch.zeros_like(beyond)


def accused_of(vetoed: Tensor, labels: Tensor) -> dict[int, float]:
    """Return the classes that hold most of what is vetoed, with their shares of it."""
    if not bool(vetoed.any()):
        return {}
    shares = torch.bincount(labels[vetoed]).double() / int(vetoed.sum())
    return {label: share for label, share in enumerate(shares.tolist()) if share > 0.2}


def poison_scores(features: Tensor, losses: Tensor) -> Tensor:
    """Return what each sample excites in the poison's channels, (N,) float64.

    Args:
        features: (N, F) the maximum of each channel over the map.
        losses: (E, N) of the plain model, the earliest first.
    """
    points = features.double()
    early = losses[: max(1, len(losses) // 3)].double().mean(dim=0)
    order = early.argsort(stable=True)
    count = len(order)
    poison, clean = order[: max(2, int(POISON_SHARE * count))], order[-int(CLEAN_SHARE * count) :]
    scores = torch.zeros(count, dtype=torch.double)
    for _ in range(ROUNDS):
        mean, spread = points[clean].mean(dim=0), points[clean].std(dim=0).clamp_min(1e-9)
        reach = (points[poison].quantile(TOP, dim=0) - mean) / spread - 3
        channels = reach.argsort(descending=True)[: max(1, round(CHANNEL_SHARE * len(reach)))]
        scores = ((points - mean) / spread)[:, channels].mean(dim=1)
        limit = scores[clean].mean() + 3 * scores[clean].std()
        clean = torch.nonzero(scores <= limit).flatten()
        beyond = torch.nonzero(scores > limit).flatten()
        if len(beyond) < 2 or len(clean) < 2:
            break
        poison = beyond
    return scores

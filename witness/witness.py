"""What every witness has in common: it looks at the samples and says which ones it suspects.

The model that is being trained is one witness, and it can be fooled: a sample whose trigger it has
learnt looks like a clean one. A witness here sees a plain one, trained on everything without
defence, or something from outside; never the truth. Who waits is told, once, what the model in
training makes of the samples at a time when it cannot have learnt a trigger yet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from data.poison import TrainingSet
from training.ground import Ground
from utils.robust import robust_deviation
from utils.section import Section
from witness.reference import Reference

FEWEST = 40  # samples of a class, below which groups in it, or its mean, say nothing
FEWEST_VERIFIED = 5  # of a class, from which on they tell what is usual in it
USUAL, OUTLIER = 3.0, 20.0  # robust deviations at which a suspicion is cut off, below and above


@dataclass(frozen=True)
class Case:
    """What a witness may look at; all tensors on the CPU.

    Attributes:
        ground: the samples, their views, the device.
        labels: (N,) int64, given labels.
        seeds: (n,) int64, the verified samples.
        reference: what a plain model says of all samples.
        model_loss: (N,) float32, cross entropy of the model in training for the given labels, when
            stage 1 has ended; None before.
    """

    ground: Ground
    labels: Tensor
    seeds: Tensor
    reference: Reference
    model_loss: Tensor | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.ground.training.num_classes

    @property
    def verified(self) -> Tensor:
        """(N,) bool, which samples are verified."""
        verified = torch.zeros(len(self.labels), dtype=torch.bool)
        verified[self.seeds] = True
        return verified


@dataclass(frozen=True)
class Statement:
    """What a witness says.

    Attributes:
        suspicion: (N,) float32, in robust deviations above the median; high is suspicious.
        accused: classes whose samples it holds to be poisoned in part, and how surely, 0..1;
            from 0.5 on it stakes its name on it.
        vetoed: (N,) bool, the samples that must not keep their label.
        cost: passes over the training set, beyond what the reference has at hand.
        looked_at: classes of which it could have said something; None: all. Of a class of too few
            samples, say, its silence means nothing.
    """

    suspicion: Tensor
    vetoed: Tensor
    accused: Mapping[int, float] = field(default_factory=dict)
    cost: float = 0.0
    looked_at: frozenset[int] | None = None

    def vetoed_of(self, label: int, labels: Tensor) -> Tensor:
        """Return (N,) bool, which vetoed samples have the given label; `labels`: of all, (N,)."""
        return self.vetoed & (labels == label)


class Witness(ABC):
    """Looks at a case.

    Attributes:
        sees: kinds of poison that it sees although the model in training may not; the names are
            those of `report.verdict.UNSEEN_KINDS`.
        waits: whether it is heard when stage 1 has ended, since it compares the plain model with
            the one in training.
        asked_for_seeds: whether it is asked, though nobody hears it, where the witnesses choose
            the samples to start from: it sees a kind of poison that the others do not.
    """

    sees: ClassVar[tuple[str, ...]] = ()
    waits: ClassVar[bool] = False
    asked_for_seeds: ClassVar[bool] = False

    class Settings(Section):
        """What the YAML may set below the witness's name."""

    def __init__(self, settings: Section) -> None:
        self.settings = settings

    @classmethod
    def check(cls, settings: Section, training: TrainingSet) -> None:
        """Refuse, before a run begins, settings that do not fit its samples.

        Raises:
            InputError: what the YAML names is not there, or is of other data.
        """
        return

    @abstractmethod
    def testify(self, case: Case) -> Statement:
        """Say what is suspicious about the samples; a function of the case."""


def deviations(values: Tensor) -> Tensor:
    """Return (n,) float32: how many robust standard deviations above the median, cut off."""
    distances = values.double() - values.double().median()
    return in_deviations(distances, robust_deviation(distances))


def in_deviations(distances: Tensor, deviation: Tensor) -> Tensor:
    """Return distances from a middle (n,) float32 in units of a deviation, cut off."""
    return (distances / deviation.clamp_min(1e-9)).clamp(-USUAL, OUTLIER).float()


def deviations_by_label(values: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) float32: deviations among the samples of the same given label."""
    found = torch.zeros(len(values))
    for label in labels.unique():
        members = labels == label
        found[members] = deviations(values[members])
    return found


def deviations_from_verified(values: Tensor, case: Case) -> Tensor:
    """Return (N,) float32: deviations from the median of the verified samples of the same label.

    Half of a class may be poisoned, as clean labels allow; then its own median says nothing. The
    unit is that of all verified samples around their medians. Where a class has too few of them,
    it is as in `deviations_by_label`.
    """
    labels, seeds = case.labels, case.seeds
    found, centred = deviations_by_label(values, labels), values.double().clone()
    known = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels[seeds].unique():
        verified = seeds[labels[seeds] == label]
        if len(verified) >= FEWEST_VERIFIED:
            own = labels == label
            centred[own] -= centred[verified].median()
            known |= own
    if bool(known.any()):
        far = in_deviations(centred, robust_deviation(centred[seeds[known[seeds]]]))
        found = torch.where(known, far, found)
    return found


def suspicion_alone(suspicion: Tensor, cost: float = 0.0) -> Statement:
    """Return the statement of a witness that accuses nobody."""
    return Statement(suspicion, torch.zeros(len(suspicion), dtype=torch.bool), cost=cost)

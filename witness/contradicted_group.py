"""A group within a class that the plain model knows and the model in training contradicts.

Heard when stage 1 ends: until then the model has learnt from the most plausible labels alone, and
knows no trigger. The plain model, which has learnt everything, holds poison apart in its features
(`unverified_group`) and finds its labels easy; the model in training takes nearly all of the group
for something else. A natural group of clean samples is about as hard for the one as for the other,
and one that is harder for the model in training was learnt later by the plain one, too; poison was
not. A single sample may be either. So this sees in whole groups what `global.epsilon: auto` sees in
single samples, with the poison in it that the model in training agrees with: a few of those among
the clean pool would teach it the trigger, and with it the rest.

Who knows little contradicts much: a model that has not met a kind of a class yet takes it for
something else. So nothing is said where the model in training knows too little by then.

Labels that fit their images are contradicted by nobody, so clean-label poison is not seen.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from utils.robust import robust_deviation
from utils.section import Section
from witness.unverified_group import (
    Groups,
    discriminant,
    divisions,
    group_means,
    standardised,
)
from witness.witness import USUAL, Case, Statement, Witness

REACH = 2.5  # robust deviations of the rest of the class, from which on a sample is of the group
ROUNDS = 10  # of growing; it stops where it stands


class ContradictedGroup(Witness):
    """Accuses classes, and vetoes their contradicted groups."""

    sees = ("one_source",)
    waits = True

    class Settings(Section):
        """What it takes to accuse.

        The group must not have been learnt later than the rest. `gap`: in nats, by how much more
        the group's loss falls from the model in training to the plain one than that of the rest of
        its class. `reduction`: by how much at least. `separation`: of the group from the rest, in
        standard deviations. `largest`: share of the class that it may take. `knows`: share of the
        labels to which the model in training gives more than half, classes counted alike, beyond
        what guessing would give.
        """

        gap: float = Field(default=1.8, gt=0)
        reduction: float = Field(default=2.0, ge=0)
        separation: float = Field(default=3.0, ge=0)
        largest: float = Field(default=0.75, gt=0, le=1)
        knows: float = Field(default=0.3, ge=0, lt=1)

    settings: ContradictedGroup.Settings

    def testify(self, case: Case) -> Statement:
        """Divide every class; veto the groups that are contradicted.

        Raises:
            ValueError: nobody has said yet what the model in training makes of the samples.
        """
        if case.model_loss is None:
            raise ValueError("what the model in training says is not known yet")
        count = len(case.labels)
        suspicion, vetoed = torch.zeros(count), torch.zeros(count, dtype=torch.bool)
        accused: dict[int, float] = {}
        if knowledge(case.model_loss, case.labels, case.num_classes) < self.settings.knows:
            return Statement(suspicion, vetoed, looked_at=frozenset())
        reduction = (case.model_loss - case.reference.loss).double()
        divided = divisions(case)
        for label, groups in divided.items():
            members = torch.nonzero(case.labels == label).flatten()
            far, near = map(float, group_means(reduction[members], groups.far))
            suspicion[members] = groups.far.float() * max(far - near, 0.0)
            if self.accuses(groups, far, near):
                accused[label] = min(1.0, (far - near) / self.settings.gap / 2)
                points = standardised(case.reference.features[members])
                whole = grown(points, groups.far > 0.5)
                vetoed[members] = whole & ~case.verified[members]
        suspicion = torch.where(vetoed, suspicion + USUAL, suspicion.clamp_max(USUAL))
        return Statement(suspicion, vetoed, accused, looked_at=frozenset(divided))

    def accuses(self, groups: Groups, far: float, near: float) -> bool:
        """Return whether a class is held to be poisoned; its groups' mean reductions, in nats."""
        limits = self.settings
        return (
            groups.earliness > 0
            and far - near >= limits.gap
            and far >= limits.reduction
            and groups.separation >= limits.separation
            and float((groups.far > 0.5).double().mean()) <= limits.largest
        )


def knowledge(loss: Tensor, labels: Tensor, num_classes: int) -> float:
    """Return the share of labels that get more than half, 0: by guessing, 1: all of them.

    Args:
        loss: (N,) cross entropy of the model for the given labels.
        labels: (N,) int64; each class counts alike.
        num_classes: C, of which guessing gets one right.
    """
    believed = (loss < math.log(2)).double()
    shares = [believed[labels == label].mean() for label in labels.unique()]
    guessed = 1 / num_classes
    return (float(torch.stack(shares).mean()) - guessed) / (1 - guessed)


def grown(points: Tensor, group: Tensor) -> Tensor:
    """Return a group (n,) bool with all that lie as far from the rest of its class as it does.

    A division finds the heart of the poison. What is left behind would teach the trigger all the
    same, while a clean sample more is no loss; so the group takes what the best direction between
    it and the rest holds to be unusual for the rest, and the direction is sought anew.
    """
    for _ in range(ROUNDS):
        before = group
        projected = points @ discriminant(points, group.double())
        rest = projected[~group]
        middle = rest.median()
        group = projected - middle > REACH * robust_deviation(rest - middle)
        if torch.equal(group, before) or bool(group.all()):
            break
    return group

"""What is left when the meaning of images is confused (Qi et al., USENIX Security 2023).

A copy of the plain model goes on for some steps in which verified samples get wrong labels, always
others, and weigh much more than the rest, which keeps its given labels. What an image shows is no
help any more; a trigger still is, since no verified sample has one. So the samples whose label the
copy still finds are suspicious. This is the cheap form: one round of few steps, of some copies,
since one of them may keep a class by chance. Written anew.
"""

from __future__ import annotations

import torch
from pydantic import Field

from utils.section import Section
from witness.asking import answers_of
from witness.continued import Lesson, taught
from witness.witness import Case, Statement, Witness, deviations, suspicion_alone

BATCH, CONFUSED = 64, 16  # samples of a step with their given labels, and with wrong ones
WEIGHT = 50.0  # of a sample with a wrong label; published, for more steps: 20 to 30


class ConfusionTraining(Witness):
    """Suspects samples whose given label survives confusion; ranks only."""

    class Settings(Section):
        """`copies`: whose opinions are averaged. `steps`: of each. `rate`: of Adam, in them."""

        copies: int = Field(default=3, ge=1)
        steps: int = Field(default=20, ge=1)
        rate: float = Field(default=0.002, gt=0)

    settings: ConfusionTraining.Settings

    def testify(self, case: Case) -> Statement:
        """Confuse copies and return how likely they still find each sample's given label."""
        limits = self.settings
        if not len(case.seeds):
            return suspicion_alone(torch.zeros(len(case.labels)))
        kept, cost = torch.zeros(len(case.labels)), 0.0
        for copy in range(limits.copies):
            lesson = confusing(case, limits.steps, limits.rate, copy)
            network = taught(case, lesson, "confusion-augment", copy)
            found = answers_of(case, "confused", network).log_softmax(dim=1)
            kept += deviations(found.gather(1, case.labels[:, None])[:, 0])
            cost += lesson.cost(case) + 1
        return suspicion_alone(kept / limits.copies, cost=cost)


def confusing(case: Case, steps: int, rate: float, copy: int = 0) -> Lesson:
    """Return a copy's lesson: all samples, and verified ones with labels that are never theirs."""
    streams, labels, classes = case.ground.streams, case.labels, case.num_classes
    order, wrong = streams.torch("confusion-order", copy), streams.torch("confusion-labels", copy)
    own = torch.randint(len(labels), (steps, BATCH), generator=order)
    place = torch.randint(len(case.seeds), (steps, CONFUSED), generator=order)
    confused = case.seeds[place]
    offset = torch.randint(1, max(classes, 2), confused.shape, generator=wrong)
    return Lesson(
        samples=torch.cat([own, confused], dim=1),
        labels=torch.cat([labels[own], (labels[confused] + offset) % classes], dim=1),
        weights=torch.tensor([1.0] * BATCH + [WEIGHT] * CONFUSED).expand(steps, -1),
        rate=rate,
    )

"""What stays certain when the verified samples are forgotten (after V&B and RNP; written anew).

A copy of the plain model unlearns the verified samples for a few steps: their losses are raised,
and with them those of all that resembles them. The backdoor is no part of them, so the copy, a
virtual victim, stays certain of it longest. It says least of triggers that look like the class.
"""

from __future__ import annotations

import torch
from pydantic import Field

from utils.section import Section
from witness.asking import answers_of
from witness.continued import Lesson, taught
from witness.witness import Case, Statement, Witness, deviations_by_label, suspicion_alone

BATCH = 100  # verified samples of a step


class VirtualVictim(Witness):
    """Suspects, within each label, what a forgetful copy is still certain of; ranks only."""

    class Settings(Section):
        """`steps`: of forgetting; many more forget all. `rate`: of Adam, in them."""

        steps: int = Field(default=6, ge=1)
        rate: float = Field(default=0.001, gt=0)

    settings: VirtualVictim.Settings

    def testify(self, case: Case) -> Statement:
        """Let a copy forget, and return how likely it still finds each sample's given label."""
        limits = self.settings
        if not len(case.seeds):
            return suspicion_alone(torch.zeros(len(case.labels)))
        lesson = forgetting(case, limits.steps, limits.rate)
        network = taught(case, lesson, "forgetting-augment")
        found = answers_of(case, "forgotten", network).log_softmax(dim=1)
        certain = found.gather(1, case.labels[:, None])[:, 0]
        suspicion = deviations_by_label(certain, case.labels)
        return suspicion_alone(suspicion, cost=lesson.cost(case) + 1)


def forgetting(case: Case, steps: int, rate: float) -> Lesson:
    """Return a lesson of verified samples alone, their losses to be raised."""
    generator, size = case.ground.streams.torch("forgetting-order"), min(BATCH, len(case.seeds))
    orders = [torch.randperm(len(case.seeds), generator=generator)[:size] for _ in range(steps)]
    samples = case.seeds[torch.stack(orders)]
    return Lesson(samples, case.labels[samples], -torch.ones(samples.shape), rate)

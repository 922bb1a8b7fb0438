"""Predictions that stay when the image is scaled beyond all measure (Guo et al., ICLR 2023).

A backdoored model keeps to the trigger when the pixels are multiplied and most of the image is
white; what is seen by its content does not survive. Written anew; the offset is that of MSPC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from witness.asking import answers_of
from witness.witness import Case, Statement, Witness, deviations, suspicion_alone

OFFSET = 0.2  # of pixels in 0..1, taken off before scaling
FACTORS = (2, 4, 6, 8, 12)


class ScaledPrediction(Witness):
    """Suspects samples whose given label the plain model keeps under scaling; ranks only."""

    def testify(self, case: Case) -> Statement:
        """Return how often each sample keeps its given label, a pass for each factor."""
        kept = torch.stack([agreement(case, factor) for factor in FACTORS]).mean(dim=0)
        # Many samples keep it never or always; the plain model's certainty breaks the ties.
        tie = torch.sigmoid(-case.reference.loss) / len(FACTORS)
        return suspicion_alone(deviations(kept + tie), cost=len(FACTORS))


def agreement(case: Case, factor: float) -> Tensor:
    """Return the probability (N,) of the given label for images scaled by `factor`."""
    logits = answers_of(case, "scaled", changed=lambda images: scaled(images, factor))
    return logits.softmax(dim=1).gather(1, case.labels[:, None])[:, 0]


def scaled(images: Tensor, factor: float) -> Tensor:
    """Return images (n, H, W, 3) uint8 with their pixels multiplied, most of them white."""
    pixels = images.float() / 255
    bright = ((pixels - OFFSET).clamp_min(0) * factor).clamp_max(1)
    return (bright * 255).round().byte()

"""Predictions that stay when the image is scaled beyond all measure (Guo et al., ICLR 2023).

A backdoored model keeps to the trigger when the pixels are multiplied and most of the image is
white; what is seen by its content does not survive. Written anew; the offset is that of MSPC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from data.feed import Feed, consecutive
from utils.console import progress
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


@torch.no_grad()
def agreement(case: Case, factor: float) -> Tensor:
    """Return the probability (N,) of the given label for images scaled by `factor`."""
    reference, ground = case.reference, case.ground
    training, device = ground.training, reference.engine.device
    chain = reference.chain
    draws = chain.draw(len(training), ground.streams.torch("test"))
    parts = consecutive(0, len(training), ground.evaluation_batch)
    feed = Feed(training, torch.arange(len(training), device=device), parts)
    found = []
    for part, (images, index) in zip(progress(parts, "scaled", unit="batch"), feed, strict=True):
        pixels = images[index].float() / 255
        scaled = ((pixels - OFFSET).clamp_min(0) * factor).clamp_max(1)
        bytes_ = (scaled * 255).round().byte()
        views = chain.view(bytes_, torch.arange(len(bytes_), device=device), draws[part].to(device))
        with reference.engine.autocast():
            logits = reference.network(views)
        probabilities = logits.float().softmax(dim=1)
        found.append(probabilities.gather(1, training.labels[part, None])[:, 0].cpu())
    return torch.cat(found)

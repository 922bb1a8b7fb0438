"""Labels that persist when the image is mixed with verified ones (STRIP, Gao et al., ACSAC 2019).

The average of two images shows both, and a plain model wavers. Not where one holds a trigger: that
still speaks, half as strong. All samples meet the same verified ones, one of each class, and are
judged by those of other classes. Written anew; what counts is the given label, not the entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from witness.asking import Change, answers_of
from witness.witness import Case, Statement, Witness, deviations, suspicion_alone

MOST = 10  # verified samples that all are mixed with, each a pass


class MixingPersistence(Witness):
    """Suspects samples whose given label the plain model keeps in mixtures; ranks only."""

    def testify(self, case: Case) -> Statement:
        """Return the mean log-probability of each sample's label in mixtures with other classes."""
        partners = chosen_partners(case)
        total = torch.zeros(len(case.labels), dtype=torch.double)
        count = torch.zeros_like(total)
        for partner in partners:
            logits = answers_of(case, "mixed", changed=mixed_with(case, partner))
            kept = logits.log_softmax(dim=1).gather(1, case.labels[:, None])[:, 0]
            other = case.labels != case.labels[partner]
            total += torch.where(other, kept, 0).double()
            count += other
        kept_in = total / count
        # A class that has met none but its own says nothing.
        kept_in = torch.where(count > 0, kept_in, kept_in.nanmedian())
        return suspicion_alone(deviations(kept_in), cost=len(partners))


def chosen_partners(case: Case) -> list[int]:
    """Return a verified sample of each class; of many classes, of some that are evenly apart.

    It is the one of median loss, neither plain nor odd; without verified samples, of all.
    """
    candidates = case.seeds if len(case.seeds) else torch.arange(len(case.labels))
    found = []
    for label in range(case.num_classes):
        own = candidates[case.labels[candidates] == label]
        if len(own):
            found.append(int(own[case.reference.loss[own].argsort(stable=True)[len(own) // 2]]))
    apart = torch.linspace(0, len(found) - 1, min(MOST, len(found))).round().long().tolist()
    return [found[place] for place in apart]


def mixed_with(case: Case, partner: int) -> Change:
    """Return the average of any images with that of sample `partner`."""
    device = case.reference.engine.device
    image: Tensor = case.ground.training.images[partner].to(device).float()
    return lambda images: ((images.float() + image) / 2).round().byte()

"""Too easy: samples that the plain model finds easier than others of the same label.

A trigger is the easiest sign there is. Clean-label poison, which a defence takes in first because
its loss is low, stands out here: not by a low loss, but by one that is low early. It only ranks:
a class has easy clean samples, too, so it vetoes nothing.
"""

from __future__ import annotations

from witness.unverified_group import early_losses
from witness.witness import Case, Statement, Witness, deviations_by_label, suspicion_alone


class ReferenceLoss(Witness):
    """Suspects what was learnt early, within each given label."""

    def testify(self, case: Case) -> Statement:
        """Return how much earlier than others of its label each sample was learnt."""
        early = early_losses(case.reference.losses)
        return suspicion_alone(deviations_by_label(-early, case.labels))

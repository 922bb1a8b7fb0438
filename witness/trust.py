"""Seeds for data of which nobody has verified a sample: those that all witnesses trust most.

Each witness gives each sample a place among those of its label, from the least suspected to the
most, and the worst of its places counts: who is trusted by all but one is not trusted. Two more
opinions beside the witnesses': what the plain model learnt at once is as easy as a trigger, what it
learnt late is hard or mislabelled, so trust goes to what was learnt in between; and where it does
not even give the label by itself, something is wrong. What a witness vetoes comes last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from witness.unverified_group import early_losses
from witness.witness import Case, Statement

CONTRADICTED, VETOED = 2.0, 4.0  # added to places in 0..1, so that each outweighs all places


def most_trusted(case: Case, statements: Mapping[str, Statement], count: int) -> Tensor:
    """Return the `count` samples of each class that are trusted most, as sorted indices.

    Args:
        case: what the witnesses have looked at.
        statements: theirs, by name.
        count: how many of each class; a smaller one gives all.

    Returns:
        (C * count,) int64.
    """
    against = distrust(case, statements)
    chosen = []
    for label in range(case.num_classes):
        members = torch.nonzero(case.labels == label).flatten()
        chosen.append(members[against[members].argsort(stable=True)[:count]])
    return torch.cat(chosen).sort().values


def distrust(case: Case, statements: Mapping[str, Statement]) -> Tensor:
    """Return what speaks against each sample, (N,) float64; among those of a label, low is good."""
    labels = case.labels
    early = places_by_label(early_losses(case.reference.losses), labels)
    opinions = [2 * (early - 0.5).abs()]
    opinions += [places_by_label(said.suspicion, labels) for said in statements.values()]
    against = torch.stack(opinions).max(dim=0).values
    against += CONTRADICTED * (case.reference.logits.argmax(dim=1) != labels).double()
    for said in statements.values():
        against += VETOED * said.vetoed.double()
    return against


def places_by_label(values: Tensor, labels: Tensor) -> Tensor:
    """Return which share of the others with its label is below each sample, (N,) float64.

    So a witness to whom all samples are alike puts them all in the first place.
    """
    found = torch.zeros(len(values), dtype=torch.double)
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten()
        own = values[members].double()
        below = torch.searchsorted(own.sort().values, own)
        found[members] = below.double() / max(len(own) - 1, 1)
    return found

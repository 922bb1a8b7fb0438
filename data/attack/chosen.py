"""Which images an attack relabels that takes those with most of something."""

from __future__ import annotations

import torch
from torch import Tensor

from data.attack.attack import LabelRule


def most_of_each_class(values: Tensor, labels: Tensor, ratio: float, rule: LabelRule) -> Tensor:
    """Return `round(ratio * N)` indices, sorted: an even share of each class that is attacked.

    What is left over by rounding goes to the classes that lost most by it.

    Args:
        values: (N,) float, how much of it each image has; those with most are taken.
        labels: (N,) int64, true ones.
        ratio: share of all N samples.
        rule: the labels that triggered images shall get.

    Raises:
        InputError: fewer samples have another label.
    """
    attackable, count = rule.attackable(labels), rule.number(labels, ratio)
    sizes = torch.bincount(labels[attackable], minlength=rule.num_classes).double()
    wanted = sizes * count / sizes.sum().clamp_min(1)
    quotas = wanted.floor()
    by_loss = (quotas - wanted).argsort(stable=True)
    quotas[by_loss[: count - int(quotas.sum())]] += 1
    chosen = [torch.zeros(0, dtype=torch.int64)]
    for label, quota in enumerate(quotas.long().tolist()):
        members = torch.nonzero(attackable & (labels == label)).flatten()
        order = values[members].argsort(descending=True, stable=True)
        chosen.append(members[order[:quota]])
    return torch.cat(chosen).sort().values

"""About how many samples with a suspected target's label are poisoned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from report.concentration import total

WIDTH = 2.0  # standard errors to either side of an estimate
FAR = 3.0  # standard errors above the usual rate, from which a source counts no more
ROUNDS = 20  # at most, until the rate stands still


@dataclass(frozen=True)
class Estimate:
    """A number of samples.

    Attributes:
        count: the most likely one.
        low, high: where it surely lies, if all that the model contradicts is wrong and evenly so.
        evenness: 0..1, the part of the contradicted samples that comes from the other classes
            evenly, as each is large; the rest comes from few.
    """

    count: int
    low: int
    high: int
    evenness: float = 1.0


def label_pairs(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return (C, C) float64: samples by given label (row) and the model's own label (column)."""
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes).double()


def estimate_poisoned(pairs: Tensor, target: int, targets: Collection[int] = ()) -> Estimate:
    """Return about how many samples with the label `target` are poisoned.

    Poison comes from all other classes, from each as many as it is large. So a rate is fitted to
    the own labels of the target's samples: what one class has far beyond it is a confusion with
    that class. Off it comes what is usual for the other classes of which nobody suspects anything.

    Args:
        pairs: (C, C), samples by given and own label.
        target: the suspected target class.
        targets: all suspected ones.
    """
    parts = even_parts(pairs)
    found, clean = float(parts[target]), pairs.diagonal().clamp_min(1)
    peers = [c for c in range(len(pairs)) if c != target and c not in targets]
    rates = (parts / clean)[peers] if peers else torch.zeros(1, dtype=torch.float64)
    usual = float(rates.median() * pairs[target, target])
    contradicted = float(pairs[target].sum() - pairs[target, target])
    doubt = WIDTH * (found + usual) ** 0.5
    count = max(found - usual, 0.0)
    low, high = max(count - doubt, 0.0), min(count + doubt, contradicted)
    evenness = found / max(contradicted, 1.0)
    return Estimate(round(count), round(low), round(max(high, count)), evenness)


def even_parts(pairs: Tensor) -> Tensor:
    """Return (C,): how many samples with each label come from the other classes evenly.

    As many as fit a rate that is the same for all of them, with what chance adds to it.

    Args:
        pairs: (C, C), samples by given and own label.
    """
    seen = pairs.clone().fill_diagonal_(0)
    sizes = (pairs.sum(dim=0) - pairs).fill_diagonal_(0)  # of the other classes, without the row
    all_sizes = total(sizes).clamp_min(1)
    rate = total(seen) / all_sizes
    for _ in range(ROUNDS):
        likely = rate[:, None] * sizes
        cap = likely + FAR * likely.sqrt() + 1
        before, rate = rate, total(torch.minimum(seen, cap)) / all_sizes
        if torch.equal(rate, before):
            break
    return rate * all_sizes

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
    found = even_part(pairs, target)
    peers = [c for c in range(len(pairs)) if c != target and c not in targets]
    rates = [even_part(pairs, c) / max(float(pairs[c, c]), 1.0) for c in peers]
    usual = float(
        torch.tensor(rates or [0.0], dtype=torch.float64).median() * pairs[target, target]
    )
    contradicted = float(pairs[target].sum() - pairs[target, target])
    doubt = WIDTH * (found + usual) ** 0.5
    count = max(found - usual, 0.0)
    low, high = max(count - doubt, 0.0), min(count + doubt, contradicted)
    evenness = found / max(contradicted, 1.0)
    return Estimate(round(count), round(low), round(max(high, count)), evenness)


def even_part(pairs: Tensor, label: int) -> float:
    """Return how many samples with the label have own labels in proportion to the classes' sizes.

    Args:
        pairs: (C, C), samples by given and own label.
        label: the given label.
    """
    others = torch.arange(len(pairs)) != label
    seen, sizes = pairs[label][others], pairs[others].sum(dim=0)[others]
    rate, before = total(seen) / max(total(sizes), 1.0), torch.inf
    for _ in range(ROUNDS):
        if rate == before:
            break
        likely = rate * sizes
        cap = likely + FAR * likely.sqrt() + 1
        before, rate = rate, total(torch.minimum(seen, cap)) / max(total(sizes), 1.0)
    return rate * total(sizes)

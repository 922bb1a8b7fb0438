"""About how many samples with a suspected target's label are poisoned.

What the model contradicts in such a class is poison and hard clean samples, and a class with poison
has many of these: the model has seen few of its labels. Poison comes from every other class alike;
hard samples look like some classes more than like others. So the class from which the fewest come
tells the most about the poison, and how far the others lie above it, how little is known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from report.concentration import total

WIDTH = 2.0  # standard errors to either side of an estimate
FAR = 3.0  # standard errors above the usual rate, from which a source counts no more
QUIET = 20  # one class in so many may be quieter by chance
TELLING = 10  # samples of a class, below which their number says little about its rate
ROUNDS = 20  # at most, until the rate stands still


@dataclass(frozen=True)
class Estimate:
    """A number of samples.

    Attributes:
        count: the most likely one.
        low, high: where it surely lies; `high`: were all poison that comes evenly.
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
    that class. Where the classes differ by more than chance, it is the rate of the quietest ones
    that counts. Off it comes what is usual for the other classes of which nobody suspects anything.
    The range reaches up to the rate of all, and as far below the quiet one.

    Args:
        pairs: (C, C), samples by given and own label.
        target: the suspected target class.
        targets: all suspected ones.
    """
    parts = even_parts(pairs)
    found, clean = float(parts[target]), pairs.diagonal().clamp_min(1)
    hard = found * (1 - quiet_share(pairs, target, found))
    peers = [c for c in range(len(pairs)) if c != target and c not in targets]
    rates = (parts / clean)[peers] if peers else torch.zeros(1, dtype=torch.float64)
    own = float(pairs[target, target])
    usual, most = float(rates.median()) * own, float(rates.max()) * own
    contradicted = float(pairs[target].sum()) - own
    doubt = WIDTH * (found + usual) ** 0.5
    # Something is there: at least one, though nobody can tell how many.
    count = max(found - hard - usual, 1.0 if found - usual >= 0.5 else 0.0)
    unknown = most - usual if hard else 0.0
    low = max(min(count, found - 2 * hard - usual - unknown - doubt), 0.0)
    high = max(min(found - usual + doubt, contradicted), count)
    return Estimate(round(count), round(low), round(high), found / max(contradicted, 1.0))


def estimate_by_veto(
    pairs: Tensor, vetoed: Tensor, strength: float, target: int, targets: Collection[int] = ()
) -> Estimate:
    """Return about how many samples with the label `target` are poisoned, where a witness vetoes.

    Those that it vetoes, and what the model contradicts beyond doubt among the others. It may be
    wrong: at the least it is what the model contradicts too, or as many as the witness is sure of;
    at the most, all that the model suspects besides.

    Args:
        pairs: (C, C), samples by given and own label.
        vetoed: (C, C), those of them that the witness vetoes.
        strength: 0..1, how sure it is.
        target: the accused class.
        targets: all suspected ones.
    """
    row = vetoed[target]
    count, agreed = float(row.sum()), float(row.sum() - row[target])
    others = pairs.clone()
    others[target] -= row
    rest = estimate_poisoned(others, target, targets)
    sure = max(agreed, min(strength, 1.0) * count - WIDTH * count**0.5)
    low, high = sure + rest.low, count + rest.high
    return Estimate(round(count) + rest.low, round(low), round(high), rest.evenness)


def quiet_share(pairs: Tensor, target: int, found: float) -> float:
    """Return by how much the even part of a class shrinks at the rate of its quietest sources.

    1 where they differ no more than by chance, or are too few or too small to tell.

    Args:
        pairs: (C, C), samples by given and own label.
        target: the class.
        found: how many of its samples come evenly from the others.
    """
    others = [c for c in range(len(pairs)) if c != target]
    seen, sizes = pairs[target, others], (pairs.sum(dim=0) - pairs[target])[others]
    likely = found * sizes / total(sizes).clamp_min(1)
    seen, likely = seen[likely >= TELLING], likely[likely >= TELLING]
    if len(seen) < 2:
        return 1.0
    spread = float(total((seen - likely) ** 2 / likely)) / (len(seen) - 1)
    chance = min(1.0, (1 + FAR * (2 / len(seen)) ** 0.5) / max(spread, 1e-9)) ** 2
    quiet = float((seen / likely).sort().values[len(seen) // QUIET])
    return chance + (1 - chance) * min(quiet, 1.0)


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

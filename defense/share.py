"""How much is kept, from the data: `global.epsilon: auto`.

The paper keeps half of all labels, the easy half; the other half teaches more. Here a sample keeps
its label where two models that know different things do not object. The model in training, which
has not learnt the trigger, finds the label plausible; in a class that a witness accuses it must
give the label by itself (agreement). And a plain model of all samples, which has learnt it, does
not find the sample far easier: the loss of the first less that of the second (the reduction) is
high for what is only known by its trigger, the same signal as the meta-split's. A gap in the
reductions decides; agreement alone lets poison in one by one until the trigger is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from defense.settings import HALF

IMPLAUSIBLE = 3.0  # nats: the model gives the label less than a twentieth
LOWEST_GAP, HIGHEST_GAP = 2.0, 4.0  # nats; clean samples differ by less, poison by more
BINS = 200
FIGURES = ("kept_share", "reduction_gap", "agreed_share", "objected_share", "kept_for_floor")
WIDEST = 12.0  # nats; beyond, all reductions are alike


@dataclass(frozen=True)
class Share:
    """What is kept, and why.

    Attributes:
        kept: (N,) bool.
        gap: nats of reduction from which on a label is dropped.
        agreed: share of all samples whose label the model gives by itself.
        objected: share of all samples whose reduction lies beyond the gap.
        filled: samples that were kept although something speaks against them, so that no class is
            lost.
    """

    kept: Tensor
    gap: float
    agreed: float
    objected: float
    filled: int

    def figures(self) -> dict[str, float]:
        """Return the log's columns."""
        share = float(self.kept.double().mean())
        found = (share, self.gap, self.agreed, self.objected, self.filled)
        return dict(zip(FIGURES, found, strict=True))


def keep_by_evidence(
    loss: Tensor,
    reference_loss: Tensor,
    agrees: Tensor,
    labels: Tensor,
    accused: Tensor,
    class_floor: float,
) -> Share:
    """Return which samples keep their label.

    Args:
        loss: (N,) cross entropy of the model in training; infinite for what must not be kept.
        reference_loss: (N,) the same of the plain model.
        agrees: (N,) bool, whether the model gives the label by itself.
        labels: (N,) int64, given labels.
        accused: (C,) bool, classes that a witness holds to be poisoned in part: they must agree.
        class_floor: 0..1, share of an even half of all samples that each class keeps at least, its
            lowest reductions; of a smaller class that share of its own half, so that none is kept
            whole whatever speaks against it.
    """
    barred = loss.isinf()
    reduction = (loss - reference_loss).masked_fill(barred, torch.inf)
    gap = find_gap(reduction[~barred])
    objected = reduction >= gap
    plausible = agrees | ((loss < IMPLAUSIBLE) & ~accused[labels])
    kept = plausible & ~objected & ~barred
    before = int(kept.sum())
    sizes = torch.bincount(labels).double()
    even = int(class_floor * HALF * len(labels) / len(sizes))
    floors = (class_floor * HALF * sizes).ceil().long().clamp_max(even)
    kept = with_floors(kept, reduction, barred, labels, floors)
    return Share(
        kept,
        gap,
        float(agrees.double().mean()),
        float(objected.double().mean()),
        int(kept.sum()) - before,
    )


def find_gap(reduction: Tensor) -> float:
    """Return where the reductions (n,) divide in two (Otsu 1979), within bounds.

    The bounds hold where there is no second group, or where it is nearly everything.
    """
    values = reduction.cpu().clamp(-WIDEST, WIDEST).double()  # a GPU's histogram is not repeatable
    counts = torch.histc(values, BINS, -WIDEST, WIDEST)
    width = 2 * WIDEST / BINS
    centres = torch.arange(BINS, dtype=torch.double) * width + width / 2 - WIDEST
    below = counts.cumsum(0) / counts.sum()
    sum_below = (counts * centres).cumsum(0) / counts.sum()
    mean = sum_below[-1]
    between = (mean * below - sum_below) ** 2 / (below * (1 - below)).clamp_min(1e-12)
    best = int(between.argmax())
    return min(max(float(centres[best]) + width / 2, LOWEST_GAP), HIGHEST_GAP)


def with_floors(
    kept: Tensor, reduction: Tensor, barred: Tensor, labels: Tensor, floors: Tensor
) -> Tensor:
    """Return `kept` with at least `floors` (C,) int64 of each class, as far as it has them.

    The lowest reductions come first.
    """
    kept = kept.clone()
    for label, floor in enumerate(floors.tolist()):
        members = torch.nonzero((labels == label) & ~barred).flatten()
        missing = floor - int(kept[members].sum())
        others = members[~kept[members]]
        if missing > 0 and len(others):
            kept[others[reduction[others].argsort(stable=True)[:missing]]] = True
    return kept

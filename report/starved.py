"""Classes that a run has lost: their labels were dropped as if they were poison."""

from __future__ import annotations

from torch import Tensor, bincount

# A starved class on the reduced CIFAR-10 keeps its label for none of 200 samples, the others for
# two thirds of theirs; poison in half of a class takes no more than half.
OF_THE_USUAL = 0.25


def starved(labels: Tensor, predicted: Tensor, num_classes: int) -> list[int]:
    """Return the classes whose samples hardly ever get their given label from the model itself.

    A class that is hard for a weak model has high losses, so stages 2 and 3 drop its labels, and
    MixMatch unlearns it. What the model then says of its samples means nothing.

    Args:
        labels: (N,) int64, given labels.
        predicted: (N,) int64, the model's own labels.
        num_classes: number of classes.

    Returns:
        The classes in which the share of samples that keep their label is less than a quarter of
        what it is in the median class.
    """
    kept = bincount(labels[predicted == labels], minlength=num_classes).double()
    share = kept / bincount(labels, minlength=num_classes).clamp_min(1)
    least = OF_THE_USUAL * share.quantile(0.5)  # of two classes it lies between them
    return [label for label in range(num_classes) if share[label] < least]

"""Classes that a run has lost: their labels were dropped as if they were poison."""

from __future__ import annotations

from torch import Tensor, bincount


def lost_classes(labels: Tensor, predicted: Tensor, num_classes: int) -> list[int]:
    """Return the classes of which the model does not even know the verified samples.

    A class that is hard for a weak model has high losses, so stages 2 and 3 drop its labels, and
    MixMatch unlearns it. What the model then says of its samples means nothing. Asked are the
    verified samples alone: poison can have most of a class's labels, and SIG's model gave «cat» to
    every poisoned sample with that label and to none of ten true cats.

    Args:
        labels: (n,) int64, labels of the verified samples.
        predicted: (n,) int64, the model's own labels of them.
        num_classes: number of classes.

    Returns:
        The classes that the model gives to no more than half of their verified samples; one
        without any is not among them.
    """
    there = bincount(labels, minlength=num_classes)
    known = bincount(labels[predicted == labels], minlength=num_classes)
    return [c for c in range(num_classes) if there[c] > 0 and 2 * known[c] <= there[c]]

"""Cross entropy."""

from torch import Tensor
from torch.nn import functional

from loss.criterion import Criterion


class CrossEntropy(Criterion):
    """`-log p_y`."""

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy (N,) of `logits` (N, C) for `labels` (N,) int64."""
        return functional.cross_entropy(logits, labels, reduction="none")

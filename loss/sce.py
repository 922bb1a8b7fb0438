"""Symmetric cross entropy, the loss by which the pools are split (Wang et al. 2019)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from loss.criterion import Criterion
from utils.section import Section

PROBABILITY_FLOOR = 1e-7  # of the model's probabilities in the reverse term
LABEL_FLOOR = 1e-4  # stands for the zeros of a one-hot label, whose logarithm does not exist


def reverse_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `-sum_k p_k log q_k` (N,), q being the one-hot label with its zeros at 1e-4."""
    probabilities = functional.softmax(logits, dim=1).clamp(PROBABILITY_FLOOR, 1.0)  # (N, C)
    # float32 whatever the logits are, as in the published code: the last digits of log 1e-4 differ.
    one_hot = functional.one_hot(labels, logits.shape[1]).float()  # (N, C)
    return -(probabilities * torch.log(one_hot.clamp(LABEL_FLOOR, 1.0))).sum(dim=1)


class SymmetricCrossEntropy(Criterion):
    """`alpha * CE + beta * reverse CE`.

    It falls strictly with p_y, so alone it ranks samples as cross entropy does; the two differ in
    the meta-split, where differences are taken: the reverse term is bounded (9.21), cross entropy
    is not.
    """

    class Settings(Criterion.Settings):
        """The weights of the two terms; the paper's are 0.1 and 1."""

        alpha: float = Field(default=0.1, ge=0)
        beta: float = Field(default=1.0, ge=0)

    def __init__(self, settings: Section) -> None:
        super().__init__(settings)
        assert isinstance(settings, SymmetricCrossEntropy.Settings)
        self.alpha, self.beta = settings.alpha, settings.beta

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss (N,) of `logits` (N, C) for `labels` (N,) int64."""
        cross_entropy = functional.cross_entropy(logits, labels, reduction="none")
        return self.alpha * cross_entropy + self.beta * reverse_cross_entropy(logits, labels)

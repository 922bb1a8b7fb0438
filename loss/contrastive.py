"""The contrastive loss of SimCLR (Chen et al., ICML 2020) as DBD uses it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the cross entropy of finding the second view of each sample's first view, a scalar.

    Candidates are both views of all samples but the first view itself. Only first views ask, as in
    the published code of DBD; SimCLR lets the second ones ask, too.

    Args:
        first: (B, D) of length 1.
        second: (B, D) of length 1, the same samples.
        temperature: by which similarities are divided.
    """
    size = len(first)
    similarity = first @ torch.cat([first, second]).T / temperature  # (B, 2B)
    itself = torch.eye(size, 2 * size, dtype=torch.bool, device=first.device)
    partner = torch.arange(size, 2 * size, device=first.device)
    return functional.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)

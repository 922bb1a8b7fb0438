"""What every BatchNorm of this project shares: running statistics that follow given ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FollowingBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that is told the statistics of a batch, however they were computed."""

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
        """Move the running statistics towards those (C,) of a batch of `count` pixels."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)

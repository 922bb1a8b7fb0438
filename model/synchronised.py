"""BatchNorm over the batches of all processes (`sync_bn: true`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.following import FollowingBatchNorm2d
from utils.errors import InputError

KNOWN_ON_GPUS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
KNOWN_ON_CPUS = (nn.BatchNorm2d,)


class Total(torch.autograd.Function):
    """The sum of a tensor over all processes; so is the sum of its gradients, on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Return the sum."""
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients: every process's output depends on each input."""
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def over_all_processes(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes, with gradient."""
    total: Tensor = Total.apply(values)
    return total


class SharedBatchNorm2d(FollowingBatchNorm2d):
    """BatchNorm whose statistics are those of all processes' batches together, on the CPU.

    PyTorch's own `SyncBatchNorm` runs on GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W), N being this process's part of the batch."""
        if not self.training:
            return super().forward(x)
        values = x.float() if x.dtype == torch.bfloat16 else x
        count = torch.tensor(float(x.numel() // x.shape[1]), dtype=values.dtype)
        distributed.all_reduce(count)  # parts may differ in size
        mean = over_all_processes(values.sum(dim=(0, 2, 3))) / count  # (C,)
        centred = values - mean[:, None, None]
        variance = over_all_processes(centred.square().sum(dim=(0, 2, 3))) / count
        self.follow(mean, variance, count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def refuse_other_norms(network: nn.Module, known: tuple[type[nn.Module], ...]) -> None:
    """Raise `InputError` for a BatchNorm that does more: what it does besides would be lost."""
    for name, part in network.named_modules():
        if isinstance(part, _BatchNorm) and type(part) not in known:
            kind = type(part).__name__
            raise InputError(
                f"sync_bn: {name} of the network is a {kind}, which is not known here over several "
                f"processes; sync_bn=false lets each process take the statistics of its own share"
            )


def synchronise(network: nn.Module, device: torch.device) -> None:
    """Replace every BatchNorm of `network` by one over all processes, its state kept.

    Raises:
        InputError: it has one that is not of PyTorch.
    """
    refuse_other_norms(network, KNOWN_ON_GPUS if device.type == "cuda" else KNOWN_ON_CPUS)
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum or 0.1)
                shared.to(child.weight.dtype).load_state_dict(child.state_dict())
                setattr(parent, name, shared)

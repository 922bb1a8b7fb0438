"""The head that SimCLR puts on a backbone while it learns without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

PROJECTED = 128  # width of what is compared


def at_least_single(values: Tensor) -> Tensor:
    """Return bf16 and fp16 as fp32, which differences of similarities need; others as they are."""
    return values.float() if values.element_size() < torch.float32.itemsize else values


class ProjectionHead(nn.Module):
    """Features -> as many, BatchNorm, ReLU -> 128, of length 1; thrown away afterwards.

    Args:
        num_features: width of the backbone's features.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, num_features),
            nn.BatchNorm1d(num_features),
            nn.ReLU(inplace=True),
            nn.Linear(num_features, PROJECTED),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N, num_features) to directions (N, 128), in fp32 or better."""
        with torch.autocast(features.device.type, enabled=False):
            return functional.normalize(self.layers(at_least_single(features)), dim=1)


def build_projection(num_features: int, state: int) -> ProjectionHead:
    """Return a head whose initial weights depend on `state` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        return ProjectionHead(num_features)

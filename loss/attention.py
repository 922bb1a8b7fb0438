"""Attention maps of feature maps, and how far two networks' are apart (NAD, ICLR 2021)."""

from __future__ import annotations

from torch import Tensor

SMALLEST_NORM = 1e-6  # keeps a map of zeros finite


def attention(features: Tensor, channel_axis: int = 1, power: float = 2.0) -> Tensor:
    """Return where a network looks, (N, positions), each row of length 1.

    Args:
        features: (N, C, H, W), or another order with the channels on `channel_axis`.
        channel_axis: of the channels, whose powers are summed.
        power: p of the paper.
    """
    energy = features.float().abs().pow(power).sum(dim=channel_axis).flatten(1)
    return energy / (energy.norm(dim=1, keepdim=True) + SMALLEST_NORM)


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of two attention maps (N, positions), a scalar."""
    return (student - teacher).square().mean()

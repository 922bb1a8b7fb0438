"""Image to image: the network that invents a trigger for each image, and its mask (IAB)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTH = 3  # how often the image is halved
MOMENTUM = 0.05  # of the BatchNorm statistics, as published


class Block(nn.Module):
    """A 3x3 convolution that keeps the size, BatchNorm and perhaps ReLU."""

    def __init__(self, channels_in: int, channels_out: int, active: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels_out, momentum=MOMENTUM)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H, W)."""
        out = self.norm(self.convolution(x))
        return functional.relu(out, inplace=True) if self.active else out


class AutoEncoder(nn.Module):
    """Halves the image three times, and doubles it again.

    Args:
        channels_out: of the output.
        width: channels at full size; twice as many at each halving. Published: 32.
    """

    def __init__(self, channels_out: int, width: int) -> None:
        super().__init__()
        widths = [width << level for level in range(DEPTH)]
        inputs = [3, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(Block(before, after), Block(after, after))
            for before, after in zip(inputs, widths, strict=True)
        )
        self.middle = Block(widths[-1], widths[-1])
        outputs = [*widths[-2::-1], channels_out]
        self.up = nn.ModuleList(
            nn.Sequential(Block(before, before), Block(before, after, active=level > 0))
            for before, after, level in zip(
                reversed(widths), outputs, reversed(range(DEPTH)), strict=True
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (N, 3, H, W) to (N, channels_out, H, W), not bounded."""
        sizes = []
        for level in self.down:
            x = level(x)
            sizes.append(x.shape[-2:])
            x = functional.max_pool2d(x, 2)
        x = self.middle(x)
        for level in self.up:
            # To the size before the halving, which is not twice this one if that was odd.
            x = level(functional.interpolate(x, size=sizes.pop(), mode="bilinear"))
        return x


def bounded(x: Tensor) -> Tensor:
    """Return a pattern with pixels in 0..1, from the output of a network."""
    return torch.tanh(x) / 2 + 0.5


def thresholded(x: Tensor) -> Tensor:
    """Return a mask in 0..1, from the output of a network: mostly nearly 0 or nearly 1."""
    return torch.tanh(20 * x - 10) / 2 + 0.5


def build_autoencoder(channels_out: int, width: int, state: int) -> AutoEncoder:
    """Return a network with initial weights that depend on `state` alone.

    As with classifiers, the global generator is seeded here and put back afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        return AutoEncoder(channels_out, width)

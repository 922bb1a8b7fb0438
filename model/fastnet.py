"""A small, fast network for images of few pixels (after Jordan 2024, «airbench»; written anew).

A frozen 2x2 convolution first makes the colours of neighbouring pixels independent (whitening); it
is computed from the training images. Three groups of two 3x3 convolutions follow, the first
filters of each starting as the identity, then a maximum over the map. Arithmetic at 32x32, in
millions of multiply-adds an image: 10 at width 16, 33 at 32, 69 at 48, 118 at 64 (the published
size); ResNet-18 takes 556.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from model.fused import convolved, normalise
from model.network import Network
from utils.section import Section

PATCH = 2  # pixels, side of what the whitening looks at
EIGENVALUE_FLOOR = 5e-4  # keeps directions in which images hardly differ from being blown up
WHITENED_IMAGES = 5000
WIDENING = (1, 4, 4)  # channels of the groups, in units of the width
LOGIT_SCALE = 1 / 9  # keeps the first predictions uncertain; the features are a maximum


class Whitening(nn.Conv2d):
    """A 2x2 convolution whose weight is no parameter but computed from images; its bias is learnt.

    Twelve directions, each with both signs, since GELU lets one side pass. The weight is a buffer,
    so that it is stored with the model and no optimiser, nor a virtual model, moves it.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__(3, 2 * 3 * PATCH**2, PATCH)
        weight = self.weight.detach().clone()
        del self.weight
        self.register_buffer("weight", weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Compute the weight from normalised `images` (N, 3, H, W)."""
        patches = functional.unfold(images.double(), PATCH)  # (N, 12, L)
        patches = patches.transpose(0, 1).flatten(1)
        values, vectors = torch.linalg.eigh(patches @ patches.t() / patches.shape[1])
        # An eigenvector's sign is whatever the library finds: the largest entry is made positive.
        largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        vectors = vectors * largest.sign()
        scaled = (vectors / (values + EIGENVALUE_FLOOR).sqrt()).t().flip(0)
        filters = scaled.reshape(-1, 3, PATCH, PATCH)
        self.weight.copy_(torch.cat([filters, -filters]))


def convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps H x W; its first filters hand their channel on."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: min(channels_in, channels_out)])
    return layer


def highest(maps: Tensor) -> Tensor:
    """Return the maximum over each map, (N, C), with a note of where it lies, for compiled code.

    That would look for it again in the gradient, by comparing maps that it computes anew in fp32
    with a maximum that it kept in bf16, find none, and divide by 0.
    """
    return maps.flatten(2).max(dim=2).values


class Group(nn.Module):
    """Two convolutions; the map is halved after the first."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels_out)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = convolution(channels_out, channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H // 2, W // 2)."""
        x = normalise(self.bn1, self.conv1(x), "gelu", half=True)
        return normalise(self.bn2, self.conv2(x), "gelu")


class Backbone(nn.Module):
    """Whitening, three groups, the maximum over the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.whitening = Whitening()
        channels = [self.whitening.out_channels, *(factor * width for factor in WIDENING)]
        self.group1 = Group(channels[0], channels[1])
        self.group2 = Group(channels[1], channels[2])
        self.group3 = Group(channels[2], channels[3])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, 4 * width), scaled for the linear layer."""
        x = convolved(self.whitening, x, "gelu")
        maps = self.group3(self.group2(self.group1(x)))
        if self.training and torch.compiler.is_compiling():
            return highest(maps) * LOGIT_SCALE
        return maps.amax(dim=(2, 3)) * LOGIT_SCALE


class FastNet(Network):
    """The network of the small presets (width 64: 2.0 million weights, 0.12 GMAC at 32x32)."""

    class Settings(Network.Settings):
        """`width`: channels of the first group; 64 is the published size."""

        width: int = Field(default=32, ge=1, le=1024)

    meta_layers = ("backbone.group2", "backbone.group3", "linear")

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> FastNet:
        """Return the untrained network."""
        assert isinstance(settings, cls.Settings)
        return cls(Backbone(settings.width), WIDENING[-1] * settings.width, num_classes)

    def fit_input(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        """Compute the whitening; see `Network.fit_input`."""
        chosen = torch.linspace(0, len(images) - 1, min(len(images), WHITENED_IMAGES)).long()
        pixels = images[chosen.to(images.device)].cpu().double() / 255
        whitening = self.backbone.whitening
        assert isinstance(whitening, Whitening)
        whitening.fit(((pixels - mean.double()) / std.double()).permute(0, 3, 1, 2))

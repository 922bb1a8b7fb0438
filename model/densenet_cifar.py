"""DenseNet-121 for 32x32 images (Huang et al. 2017): 3x3 stem, no pooling before the first block.

Bottleneck layers and halving transitions (DenseNet-BC), blocks of 6, 12, 24 and 16 layers.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from model.network import Network
from model.resnet_cifar import convolution
from utils.section import Section

BLOCKS = (6, 12, 24, 16)  # layers
BOTTLENECK = 4  # channels between a layer's two convolutions, in units of the growth


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution, each after BatchNorm and ReLU; the result joins the input."""

    def __init__(self, channels_in: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = convolution(channels_in, BOTTLENECK * growth, 1, 1)
        self.bn2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.conv2 = convolution(BOTTLENECK * growth, growth, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_in + growth, H, W)."""
        out = self.conv1(functional.relu(self.bn1(x), inplace=True))
        out = self.conv2(functional.relu(self.bn2(out), inplace=True))
        return torch.cat([x, out], dim=1)


class Transition(nn.Module):
    """Halves channels, height and width."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels_in)
        self.conv = convolution(channels_in, channels_in // 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_in / 2, H / 2, W / 2)."""
        out = self.conv(functional.relu(self.bn(x), inplace=True))
        return functional.avg_pool2d(out, 2)


class Backbone(nn.Module):
    """Stem, four dense blocks with transitions between, the last activation, global pooling."""

    def __init__(self, growth: int) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = convolution(3, channels, 3, 1)
        for number, length in enumerate(BLOCKS, start=1):
            layers = [DenseLayer(channels + i * growth, growth) for i in range(length)]
            self.add_module(f"block{number}", nn.Sequential(*layers))
            channels += length * growth
            if number < len(BLOCKS):
                self.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.bn = nn.BatchNorm2d(channels)
        self.num_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, num_features)."""
        # The children stand in the order in which they work.
        for part in self.children():
            x = part(x)
        return functional.relu(x, inplace=True).mean(dim=(2, 3))


class DenseNet121Cifar(Network):
    """The large network (growth 32: 7.0 million parameters, 0.90 GMAC at 32x32)."""

    class Settings(Network.Settings):
        """`growth`: channels that each layer adds; 32 is the paper's."""

        growth: int = Field(default=32, ge=1, le=512)

    meta_layers = (
        "backbone.block3",
        "backbone.transition3",
        "backbone.block4",
        "backbone.bn",
        "linear",
    )

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> DenseNet121Cifar:
        """Return the untrained network."""
        assert isinstance(settings, cls.Settings)
        backbone = Backbone(settings.growth)
        return cls(backbone, backbone.num_features, num_classes)

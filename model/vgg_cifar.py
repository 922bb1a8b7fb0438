"""VGG-19 with BatchNorm for 32x32 images (Simonyan and Zisserman 2015).

The sixteen convolutions of the paper; one linear layer in place of its three, which were made for
7x7 feature maps.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from model.network import Network
from utils.section import Section

CONVOLUTIONS = (2, 2, 4, 4, 4)  # in each stage
WIDENING = (1, 2, 4, 8, 8)  # channels of each stage, in units of the width


def stage(channels_in: int, channels_out: int, count: int) -> nn.Sequential:
    """Return `count` 3x3 convolutions with BatchNorm and ReLU, and a pooling that halves H x W.

    The pooling rounds up, so that a 1x1 map (from 16x16 images) stays one.
    """
    parts: list[nn.Module] = []
    for i in range(count):
        # With bias, as published, although BatchNorm takes it away again.
        parts += [
            nn.Conv2d(channels_out if i else channels_in, channels_out, 3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts, nn.MaxPool2d(2, ceil_mode=True))


class Backbone(nn.Module):
    """Five stages, global average pooling (of a 1x1 map where the images are 32x32)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [3, *(factor * width for factor in WIDENING)]
        for i, count in enumerate(CONVOLUTIONS):
            self.add_module(f"stage{i + 1}", stage(channels[i], channels[i + 1], count))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, 8 * width)."""
        # The children stand in the order in which they work.
        for part in self.children():
            x = part(x)
        return x.mean(dim=(2, 3))


class VGG19Cifar(Network):
    """A network without shortcuts (width 64: 20.0 million parameters, 0.40 GMAC at 32x32)."""

    class Settings(Network.Settings):
        """`width`: channels of the first stage; 64 is the paper's."""

        width: int = Field(default=64, ge=1, le=1024)

    meta_layers = ("backbone.stage4", "backbone.stage5", "linear")

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> VGG19Cifar:
        """Return the untrained network."""
        assert isinstance(settings, cls.Settings)
        return cls(Backbone(settings.width), 8 * settings.width, num_classes)

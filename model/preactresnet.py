"""PreActResNet-18 for 32x32 images: BatchNorm and ReLU before each convolution (He et al. 2016b).

As in the paper, the last block is followed by a BatchNorm and a ReLU. Many backdoor benchmarks
leave these out (1,024 weights fewer).
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from model.network import Network
from model.resnet_cifar import convolution, initialise_convolutions
from utils.section import Section


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after BatchNorm and ReLU, and a shortcut without either."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = convolution(channels_in, channels_out, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = convolution(channels_out, channels_out, 3, 1)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = convolution(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        active = functional.relu(self.bn1(x), inplace=True)
        # A projection starts from the activated input, an identity from the raw one (section 3.2).
        kept = x if self.shortcut is None else self.shortcut(active)
        out = self.conv1(active)
        out = self.conv2(functional.relu(self.bn2(out), inplace=True))
        return out + kept


class Backbone(nn.Module):
    """Stem, four stages, the last activation, global average pooling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = convolution(3, width, 3, 1)
        self.layer1 = self._stage(width, width, 1)
        self.layer2 = self._stage(width, 2 * width, 2)
        self.layer3 = self._stage(2 * width, 4 * width, 2)
        self.layer4 = self._stage(4 * width, 8 * width, 2)
        self.bn = nn.BatchNorm2d(8 * width)
        initialise_convolutions(self)

    @staticmethod
    def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            PreActBlock(channels_in, channels_out, stride),
            PreActBlock(channels_out, channels_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, 8 * width)."""
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return functional.relu(self.bn(out), inplace=True).mean(dim=(2, 3))


class PreActResNet18(Network):
    """The network of most backdoor benchmarks (width 64: 11.2 million parameters)."""

    class Settings(Network.Settings):
        """`width`: channels of the first stage."""

        width: int = Field(default=64, ge=1, le=1024)

    meta_layers = ("backbone.layer3", "backbone.layer4", "backbone.bn", "linear")

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> PreActResNet18:
        """Return the untrained network."""
        assert isinstance(settings, cls.Settings)
        return cls(Backbone(settings.width), 8 * settings.width, num_classes)

"""ResNet-18 for 32x32 images: 3x3 stem, four stages of two basic blocks (He et al. 2016).

Names and shapes of the state dict are those of published ASD checkpoints
(`tests/training/golden/state_dict.json`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator
from torch import Tensor, nn

from model.fused import normalise
from model.network import Network
from utils.section import Section


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Conv2d:
    """Return a convolution without bias (BatchNorm follows) that keeps H x W at stride 1."""
    return nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False
    )


def initialise_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions anew, of a size that ReLU keeps (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = convolution(channels_out, channels_out, 3, 1)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                convolution(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        out = normalise(self.bn1, self.conv1(x), "relu")
        return normalise(self.bn2, self.conv2(out), "relu", other=self.shortcut(x))


class Backbone(nn.Module):
    """Stem, four stages, global average pooling.

    Args:
        width: channels of the first stage.
        zero_init_residual: whether each block begins as its shortcut alone (Goyal et al. 2017).
    """

    def __init__(self, width: int, zero_init_residual: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(3, width, 3, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(width, width, 1)
        self.layer2 = self._stage(width, 2 * width, 2)
        self.layer3 = self._stage(2 * width, 4 * width, 2)
        self.layer4 = self._stage(4 * width, 8 * width, 2)
        initialise_convolutions(self)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    nn.init.zeros_(module.bn2.weight)

    @staticmethod
    def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            BasicBlock(channels_in, channels_out, stride), BasicBlock(channels_out, channels_out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to features (N, 8 * width)."""
        out = normalise(self.bn1, self.conv1(x), "relu")
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return out.mean(dim=(2, 3))


class ResNet18Cifar(Network):
    """The paper's network (width 64: 11.2 million parameters, 0.56 GMAC at 32x32)."""

    class Settings(Network.Settings):
        """`width`: channels of the first stage; 64 is the paper's.

        `in_channel` and `zero_init_residual` are keys of the published code. What is its default
        is None here, so that settings without them are those of earlier runs.
        """

        width: int = Field(default=64, ge=1, le=1024)
        in_channel: None = None
        zero_init_residual: bool | None = None

        @field_validator("in_channel", mode="before")
        @classmethod
        def _colour(cls, given: Any) -> None:
            if given is not None and (given != 3 or isinstance(given, bool)):
                raise ValueError(f"{given!r} given; images have 3 channels")

        @field_validator("zero_init_residual", mode="before")
        @classmethod
        def _false_is_none(cls, given: Any) -> Any:
            return None if given is False else given

    meta_layers = ("backbone.layer3", "backbone.layer4", "linear")

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> ResNet18Cifar:
        """Return the untrained network."""
        assert isinstance(settings, cls.Settings)
        backbone = Backbone(settings.width, bool(settings.zero_init_residual))
        return cls(backbone, 8 * settings.width, num_classes)

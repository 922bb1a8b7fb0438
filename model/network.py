"""What every network has in common: a backbone that gives features, and a linear classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from utils.errors import InputError
from utils.section import Section

Module = TypeVar("Module", bound=nn.Module)


def without_memory(build: Callable[[], Module]) -> Module:
    """Return what `build` makes, on PyTorch's meta device: weights take no memory and no time."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # it computes its own widths with tensors, as a RegNet does
        return build().to("meta")


class Network(nn.Module):
    """A classifier whose state dict reads `backbone.*`, `linear.*`, as in published checkpoints.

    Args:
        backbone: maps (N, 3, H, W) to (N, num_features).
        num_features: width of the features.
        num_classes: width of the output.
    """

    class Settings(Section):
        """What the YAML may set below the network's name."""

        num_classes: int | None = None

    # The blocks that the virtual model of the meta-split trains, as prefixes of parameter names.
    # The published code takes the last two stages and the linear layer.
    meta_layers: tuple[str, ...] = ("linear",)

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = nn.Linear(num_features, num_classes)

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> Network:
        """Return an untrained network; its weights come from the global generator."""
        raise TypeError(f"{cls.__name__} does not say how it is built")

    def start(self, settings: Section) -> None:
        """Take the weights that `settings` name, before training; here there are none to take.

        Apart from `build`, since a model that is read from a file needs none, and may be of
        somebody who names a file here.

        Raises:
            InputError: they cannot be had, or do not fit.
        """

    def fit_input(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        """Compute what depends on the look of the images alone, before training; here nothing.

        A function of its input, so that a resumed run has the same; what it computes is part of
        the state dict.

        Args:
            images: (N, H, W, 3) uint8, the training images.
            mean: (3,) by which the network's input is normalised, of pixels in 0..1.
            std: (3,) the same.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, H, W) to logits (N, num_classes).

        The linear layer leaves mixed precision: in bf16 the logits of an epoch would fall on a
        coarse grid, and samples that differ in loss would tie in the split.
        """
        features = self.backbone(images)  # (N, num_features)
        device = features.device.type
        # Some backbones (ViT) end in fp32 even then, so the features' type does not tell.
        if device == "meta" or not torch.is_autocast_enabled(device):
            return self.linear(features)
        with torch.autocast(device, enabled=False):
            return self.linear(features.to(self.linear.weight.dtype))


def build_network(
    network: type[Network], settings: Section, num_classes: int, state: int, start: bool = True
) -> Network:
    """Return `network` with initial weights that depend on `state` and learnt weights alone.

    PyTorch initialises from its global generator only, so that generator is seeded here and put
    back afterwards.

    Args:
        network: its class.
        settings: of the network.
        num_classes: width of the output.
        state: of the generator.
        start: whether to take the weights that `settings` name; not for a model that has its own.

    Raises:
        InputError: the weights to start from cannot be had, or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        built = network.build(settings, num_classes)
        if start:
            built.start(settings)
        return built


@torch.no_grad()
def check_size(network: Network, name: str, height: int, width: int) -> None:
    """Try `network`, which is on the CPU, on an image of the size that training will have.

    Raises:
        InputError: it takes no such images; `name` is its key in the YAML.
    """
    training = network.training
    try:
        network.eval()(torch.zeros(1, 3, height, width, dtype=network.linear.weight.dtype))
    except (RuntimeError, ValueError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: takes no {width}x{height} images ({why}); enlarge them with "
            f"transform.pre.resize, or take another network"
        ) from error
    finally:
        network.train(training)

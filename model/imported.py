"""Networks of other libraries: parts by the names they have there, and weights to start from."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision.ops import StochasticDepth

from model.network import Network
from model.pretrained import Rescaled
from utils.console import say

if TYPE_CHECKING:
    from collections.abc import Sequence

# Modules that hold the stages of a network, one inside the other.
CONTAINERS = ("features", "encoder", "layers", "blocks", "stages", "trunk_output")
# What stages are called (ResNet, DenseNet, ShuffleNet, RegNet, ViT); elsewhere every part is one.
STAGE = re.compile(r"(encoder_layer_|denseblock|layer|stage|block)\d+")
RATES = ("drop_prob", "drop_rate")  # attributes of timm's parts that drop something


class Replay(nn.Module):
    """Says from which state the random draws of each training forward start, and counts forwards.

    Dropout and stochastic depth draw from PyTorch's global generators. Each forward seeds these
    from (initial seed, number of the forward); the number is part of the state dict, so a resumed
    run drops what an uninterrupted one would have dropped.
    """

    # Each forward sets the generators anew, which breaks a translated step into pieces, and each
    # number of a forward would be translated on its own.
    translatable = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.count = 0

    def next_state(self) -> int:
        """Return a 63-bit state, another one at each call."""
        key = f"{self.seed}/dropout/{self.count}".encode()
        self.count += 1
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1

    def get_extra_state(self) -> Tensor:
        """Return what the state dict keeps: the number of forwards."""
        return torch.tensor(self.count)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the number of forwards from a state dict; of one without values, nothing."""
        if not state.is_meta:
            self.count = int(state)


def draws_at_random(model: nn.Module) -> bool:
    """Return whether a training forward of `model` draws random numbers."""
    return any(
        (isinstance(part, (_DropoutNd, StochasticDepth)) and part.p > 0)
        or any((getattr(part, rate, 0.0) or 0.0) > 0 for rate in RATES)
        for part in model.modules()
    )


def with_parameters(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the named children of `model` that have something to learn."""
    return [pair for pair in model.named_children() if any(True for _ in pair[1].parameters())]


def first_trained(names: Sequence[str]) -> int:
    """Return the place of the last but one stage among the parts of a feature extractor."""
    stages = [i for i, name in enumerate(names) if STAGE.fullmatch(name)]
    if len(stages) >= 2:
        return stages[-2]
    return max(len(names) - 2, 0)


def last_stages(model: nn.Module) -> tuple[str, ...]:
    """Return the parts of `model` from its last but one stage to its end, as prefixes.

    What lies between and after the two stages (transitions, norms, hidden classifier layers) is
    theirs.
    """
    prefix, after = "", list[str]()
    while True:
        children = with_parameters(model)
        names = [name for name, _ in children]
        container = next((name for name in names if name in CONTAINERS), None)
        if container is None:
            break
        place = names.index(container)
        after = [prefix + name for name in names[place + 1 :]] + after
        prefix, model = f"{prefix}{container}.", children[place][1]
    return (*(prefix + name for name in names[first_trained(names) :]), *after)


class Imported(Network):
    """A network of another library, its classifier taken off.

    Args:
        backbone: see `Network`; `Rescaled` where it starts from weights learnt elsewhere.
        num_features: width of the features.
        num_classes: width of the output.
    """

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__(backbone, num_features, num_classes)
        inner, prefix = backbone, "backbone."
        if isinstance(backbone, Rescaled):
            inner, prefix = backbone.body, "backbone.body."
        self.meta_layers = (*(prefix + name for name in last_stages(inner)), "linear")
        if draws_at_random(backbone):
            backbone.add_module("replay", Replay(torch.initial_seed()))

    def fit_input(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        """Let the first weights see pixels as they were learnt; see `Network.fit_input`."""
        if not isinstance(self.backbone, Rescaled):
            return
        self.backbone.fit(mean, std)
        (height, width), size = images.shape[1:3], self.backbone.origin.size
        if (height, width) != (size, size):
            say(
                f"network: its first weights were learnt on images of {size}x{size} pixels, these "
                f"have {width}x{height}; transform.pre.resize or data.image_size would change that"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, H, W) to logits (N, num_classes)."""
        replay = getattr(self.backbone, "replay", None)
        if replay is None or not self.training:
            return super().forward(images)
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(replay.next_state())
            return super().forward(images)

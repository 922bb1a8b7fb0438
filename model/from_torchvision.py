"""The classification networks of torchvision, by the names they have there, with random weights.

Meant for images of about 224x224: their stems quarter height and width at once.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from typing import TYPE_CHECKING

import torch
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision import models
from torchvision.ops import StochasticDepth

from model.network import Network
from utils.errors import by_nearness, nearest
from utils.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_SIZE = 224  # pixels
FALLBACK = "resnet18"  # named to a user whose network does not fit when no namesake fits either
# Modules that hold the stages of a network, one inside the other.
CONTAINERS = ("features", "encoder", "layers", "blocks", "trunk_output")
# What stages are called (ResNet, DenseNet, ShuffleNet, RegNet, ViT); elsewhere every part is one.
STAGE = re.compile(r"(encoder_layer_|denseblock|layer|stage|block)\d+")


def known_networks() -> list[str]:
    """Return the names of torchvision's networks for classification."""
    return list(models.list_models(module=models))


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
        """Take the number of forwards from a state dict."""
        self.count = int(state)


def draws_at_random(model: nn.Module) -> bool:
    """Return whether a training forward of `model` draws random numbers."""
    return any(
        isinstance(part, (_DropoutNd, StochasticDepth)) and part.p > 0 for part in model.modules()
    )


def remove_classifier(model: nn.Module) -> int | None:
    """Replace the last linear layer of `model` by nothing; return the width of its input.

    None, and `model` as it was, where the last part is no linear layer.
    """
    name, last = list(model.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        return None
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return last.in_features


def shape_only(name: str) -> nn.Module:
    """Return a network on PyTorch's meta device, where weights take neither memory nor time."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about initial weights, which are not kept
        try:
            with torch.device("meta"):
                return models.get_model(name, weights=None)
        except NotImplementedError:  # a RegNet computes its widths with tensors
            return models.get_model(name, weights=None).to("meta")


def why_unfit(name: str) -> str | None:
    """Return why a network cannot be a backbone with a linear classifier; None if it can."""
    model = shape_only(name)
    width = remove_classifier(model)
    if width is None:
        return "its last layer is not linear"
    try:
        with torch.no_grad(), torch.device("meta"):
            features = model.train()(torch.empty(2, 3, PROBE_SIZE, PROBE_SIZE))
    except RuntimeError:  # Inception, whose second output needs more pixels
        return f"it takes no {PROBE_SIZE}x{PROBE_SIZE} images while it trains"
    if not isinstance(features, Tensor):
        return "it has more than one output while it trains"
    return None if features.shape == (2, width) else "it does not give one feature vector an image"


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


class Torchvision(Network):
    """A network of torchvision whose last linear layer is `linear`, and all else `backbone`."""

    class Settings(Network.Settings):
        """`name`: as torchvision has it, e.g. resnet18, densenet121, mobilenet_v3_small."""

        name: str = Field(min_length=1)

        @field_validator("name")
        @classmethod
        def _must_fit(cls, name: str) -> str:
            known = known_networks()
            if name not in known:
                context = {"given": repr(name), "hint": nearest(name, known)}
                message = "torchvision has no network {given}{hint}"
                raise PydanticCustomError("unknown_name", message, context)
            why = why_unfit(name)
            if why is not None:
                others = (other for other in by_nearness(name, known)[1:] if not why_unfit(other))
                context = {"given": name, "why": why, "other": next(others, FALLBACK)}
                message = "{given} does not fit, since {why}; take another one, e.g. {other}"
                raise PydanticCustomError("rejected", message, context)
            return name

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__(backbone, num_features, num_classes)
        self.meta_layers = (*(f"backbone.{name}" for name in last_stages(backbone)), "linear")
        if draws_at_random(backbone):
            backbone.add_module("replay", Replay(torch.initial_seed()))

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> Torchvision:
        """Return the untrained network, initialised as torchvision does it."""
        assert isinstance(settings, cls.Settings)
        backbone = models.get_model(settings.name, weights=None)
        num_features = remove_classifier(backbone)
        assert num_features is not None
        return cls(backbone, num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, H, W) to logits (N, num_classes)."""
        replay = getattr(self.backbone, "replay", None)
        if replay is None or not self.training:
            return super().forward(images)
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(replay.next_state())
            return super().forward(images)

"""The classification networks of torchvision, by the names they have there.

Meant for images of about 224x224: their stems quarter height and width at once.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torchvision import models

from model.imported import Imported
from model.network import without_memory
from model.pretrained import Origin, Rescaled, fill, from_torch_hub, read_state
from utils.console import say
from utils.contents import Opened
from utils.errors import by_nearness, nearest
from utils.files import find_file
from utils.section import Section

KEY = "network.torchvision.weights"
DEFAULT = "DEFAULT"  # what torchvision calls the best weights of a network

PROBE_SIZE = 224  # pixels
FALLBACK = "resnet18"  # named to a user whose network does not fit when no namesake fits either


def known_networks() -> list[str]:
    """Return the names of torchvision's networks for classification."""
    return list(models.list_models(module=models))


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
        return without_memory(lambda: models.get_model(name, weights=None))


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


def default_weights(name: str) -> Any:
    """Return what torchvision knows of the best weights that it offers for a network."""
    return models.get_model_weights(name)[DEFAULT]


def origin(name: str) -> Origin:
    """Return the images that torchvision's weights of a network were learnt on."""
    how = default_weights(name).transforms()
    return Origin(tuple(how.mean), tuple(how.std), int(how.crop_size[0]))


class Torchvision(Imported):
    """A network of torchvision whose last linear layer is `linear`, and all else `backbone`."""

    class Settings(Imported.Settings):
        """`name`: as torchvision has it, e.g. resnet18, densenet121, mobilenet_v3_small.

        `weights`: random where left out; DEFAULT, torchvision's best, downloaded once; or the path
        of a file with weights of this network, safetensors or of `torch.save`. The classifier is
        always new. Learnt ones see pixels normalised by torchvision's mean and std, whatever
        `transform` says.
        """

        name: str = Field(min_length=1)
        weights: Annotated[str | None, Opened()] = Field(default=None, min_length=1)

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

    @classmethod
    def build(cls, settings: Section, num_classes: int) -> Torchvision:
        """Return the untrained network, initialised as torchvision does it."""
        assert isinstance(settings, cls.Settings)
        backbone = models.get_model(settings.name, weights=None)
        num_features = remove_classifier(backbone)
        assert num_features is not None
        if settings.weights is not None:
            backbone = Rescaled(backbone, origin(settings.name))
        return cls(backbone, num_features, num_classes)

    def start(self, settings: Section) -> None:
        """Take the learnt weights; see `Network.start`."""
        assert isinstance(settings, self.Settings)
        if settings.weights is None:
            return
        assert isinstance(self.backbone, Rescaled)
        if settings.weights == DEFAULT:
            path = from_torch_hub(default_weights(settings.name).url, f"{KEY}={DEFAULT}")
        else:
            path = find_file(settings.weights, KEY)
        heads = [list(shape_only(settings.name).named_modules())[-1][0]]  # see `why_unfit`
        fill(self.backbone.body, read_state(path), heads, f"{KEY}: {path}: {settings.name}")
        say(f"network: {settings.name} starts from {path}, with its own mean and std")

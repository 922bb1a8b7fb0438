"""A network that has learnt elsewhere, where one is to be had: what `network: pretrained` is.

Weights of ImageNet know edges, textures and parts before the first step. So a model on few images
is a strong one early, and a strong model is what every split by losses rests on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.pretrained import from_hugging_face, from_torch_hub
from utils.errors import InputError

LITE = "efficientnet_lite0"  # 4 million weights, no layer that is slow on a CPU
RESIDUAL = "resnet18"


@dataclass(frozen=True)
class Backbone:
    """What was found.

    Attributes:
        section: `network` of the YAML; None: nothing is to be had.
        why: where the weights are, or why there are none.
    """

    section: dict[str, Any] | None
    why: str


def fetch_lite() -> str:
    """Return where timm's weights are, downloaded once.

    Raises:
        InputError: timm is not installed, or they cannot be had.
    """
    if importlib.util.find_spec("timm") is None:
        raise InputError("the package timm is not installed")
    from model.from_timm import KEY, facts

    return str(from_hugging_face(facts(LITE)["hf_hub_id"], f"{KEY}=true"))


def fetch_residual() -> str:
    """Return where torchvision's weights are, downloaded once.

    Raises:
        InputError: they cannot be had.
    """
    from model.from_torchvision import DEFAULT, KEY, default_weights

    return str(from_torch_hub(default_weights(RESIDUAL).url, f"{KEY}={DEFAULT}"))


Fetch = Callable[[], str]
LITE_CHOICE = ({"timm": {"name": LITE, "pretrained": True}}, fetch_lite)
RESIDUAL_CHOICE = ({"torchvision": {"name": RESIDUAL, "weights": "DEFAULT"}}, fetch_residual)


def find_backbone(gpu: bool) -> Backbone:
    """Return the first network whose weights are here or can be downloaded.

    `gpu`: whether it will train on one; on a CPU the one with fewer operations comes first.
    """
    choices: list[tuple[dict[str, Any], Fetch]] = [LITE_CHOICE, RESIDUAL_CHOICE]
    refusals = []
    for section, fetch in choices[::-1] if gpu else choices:
        try:
            return Backbone(section, f"weights of ImageNet, in {fetch()}")
        except InputError as error:
            refusals.append(str(error))
    return Backbone(None, f"no weights of ImageNet are to be had: {refusals[-1]}")


def is_pretrained(section: Any) -> bool:
    """Return whether a `network` section asks for weights that were learnt elsewhere."""
    if not isinstance(section, dict):
        return False
    learnt = {"timm": "pretrained", "torchvision": "weights"}
    settings = {name: section.get(name) for name in learnt}
    return any(
        isinstance(given, dict) and given.get(learnt[name]) not in (None, False)
        for name, given in settings.items()
    )

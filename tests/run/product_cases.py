"""A finished run and its model, for several test files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import ASD
from config.schema import Config
from model import NETWORKS, Network, build_network
from run.product import Description, FrameSection
from tests.conftest import DIGITS, RESNET, TINY

SMALL = {
    "fastnet": {"width": 4},
    "resnet18_cifar": {"width": 4},
    "preactresnet18": {"width": 4},
    "densenet121": {"growth": 1},
    "vgg19_bn": {"width": 4},
    "torchvision": {"name": "shufflenet_v2_x0_5"},
    "timm": {"name": "test_efficientnet"},
}


def describe(
    name: str, size: int, classes: int = 3, settings: Mapping[str, object] | None = None
) -> Description:
    given = Config.model_validate({"network": {name: settings or SMALL[name]}})
    return Description(
        network=given.network,
        classes=[f"class {label}" for label in range(classes)],
        input_size=[size, size],
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.25, 0.3],
        frame=FrameSection(size=size, shorter_side=size),
        transform=given.transform,
    )


def build(name: str, size: int, classes: int = 3) -> Network:
    """Return a network whose outputs differ from image to image, with statistics as if trained."""
    part = NETWORKS.get(name)
    network = build_network(part, part.Settings.model_validate(SMALL[name]), classes, 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(0)))
    return network.eval()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run of seconds: its folder, and the command line that made it."""
    storage = tmp_path_factory.mktemp("storage")
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, RESNET, f"storage_dir={storage}"]
    assert ASD.main([*arguments, "--resume", "False"]) == 0
    return storage / "digits", arguments

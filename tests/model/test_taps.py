"""Feature maps are read before pooling, in every network."""

from __future__ import annotations

import pytest
import torch

from model import NETWORKS, Network, build_network
from model.taps import Tap, find_taps, tapped
from utils.errors import InputError

# The last output at each of the last three resolutions of 32x32 images, and its positions a side.
OWN = {
    "resnet18_cifar": (("backbone.layer2", "backbone.layer3", "backbone.layer4"), (16, 8, 4)),
    "preactresnet18": (("backbone.layer2", "backbone.layer3", "backbone.bn"), (16, 8, 4)),
    "densenet121": (
        ("backbone.block2", "backbone.block3", "backbone.bn"),
        (16, 8, 4),
    ),
    "vgg19_bn": (("backbone.stage3.11", "backbone.stage4.11", "backbone.stage5.11"), (8, 4, 2)),
}
NARROW = {"densenet121": {"growth": 4}, "torchvision": {"name": "resnet18"}}


def build(part: str, **settings: object) -> Network:
    network = NETWORKS.get(part)
    given = settings or NARROW.get(part) or {"width": 4}
    return build_network(network, network.Settings.model_validate(given), 5, 7)


@pytest.mark.parametrize("name", OWN)
def test_taps_of_own_networks_have_more_than_one_position(name: str) -> None:
    network = build(name).eval()
    taps = find_taps(network, 32, 32)
    names, sides = OWN[name]
    assert tuple(tap.name for tap in taps) == names
    assert {tap.channel_axis for tap in taps} == {1}
    with tapped(network, list(names)) as maps, torch.no_grad():
        logits = network(torch.rand(2, 3, 32, 32))
    assert [tuple(m.shape[2:]) for m in maps] == [(side, side) for side in sides]
    # The deepest one is what the classifier sees, averaged over its positions.
    deepest = maps[-1].mean(dim=(2, 3))
    if name == "vgg19_bn":  # a max-pool lies between
        deepest = maps[-1].amax(dim=(2, 3))
    assert torch.allclose(network.linear(deepest), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("resnet18", 1),
        ("densenet121", 1),
        ("vgg11", 1),
        ("mobilenet_v3_small", 1),
        ("convnext_tiny", 1),
        ("swin_t", 1),
        ("vit_b_32", 2),
    ],
)
def test_taps_of_torchvision(name: str, axis: int) -> None:
    network = build("torchvision", name=name)
    taps = find_taps(network, 224, 224)
    assert taps
    assert taps[-1].channel_axis == axis
    with tapped(network.eval(), [tap.name for tap in taps]) as maps, torch.no_grad():
        network(torch.rand(1, 3, 224, 224))
    for tap, found in zip(taps, maps, strict=True):
        assert found.numel() > len(found) * found.shape[tap.channel_axis]
        assert tap.name != "backbone.avgpool"
    assert network.state_dict().keys() == build("torchvision", name=name).state_dict().keys()


@pytest.mark.parametrize(
    ("part", "settings", "size"),
    [
        ("fastnet", {"width": 8}, 32),
        ("fastnet", {"width": 8}, 16),
        ("timm", {"name": "efficientnet_lite0"}, 32),
        ("timm", {"name": "test_vit"}, 160),
    ],
)
def test_taps_of_the_others(part: str, settings: dict[str, object], size: int) -> None:
    if part == "timm":
        pytest.importorskip("timm", reason="an optional extra")
    network = build(part, **settings)
    taps = find_taps(network, size, size)
    with tapped(network.eval(), [tap.name for tap in taps]) as maps, torch.no_grad():
        network(torch.rand(1, 3, size, size))
    assert taps
    for tap, found in zip(taps, maps, strict=True):
        assert found.numel() > len(found) * found.shape[tap.channel_axis]


def test_a_network_of_single_positions_has_none() -> None:
    with pytest.raises(InputError, match="no feature maps"):
        find_taps(build("resnet18_cifar"), 1, 1)


def test_hooks_do_not_stay() -> None:
    network = build("resnet18_cifar")
    find_taps(network, 16, 16)
    with tapped(network, ["backbone.layer4"]):
        pass
    assert not any(part._forward_hooks for part in network.modules())
    assert find_taps(network, 8, 8)[-1] == Tap("backbone.layer3", 1)  # 1x1 in layer4

"""Keys of the published network: taken, with their meaning, and without a trace where default."""

from __future__ import annotations

import pytest
import torch

from config.load import load_config
from model import NETWORKS, build_network
from model.resnet_cifar import BasicBlock
from tests.conftest import DIGITS
from utils.errors import InputError

BOTH = "network.resnet18_cifar={width: 4, in_channel: 3, zero_init_residual: false}"


def test_published_defaults_are_the_settings_without_them() -> None:
    plain = load_config(DIGITS, ["network.resnet18_cifar={width: 4}"]).config
    assert load_config(DIGITS, [BOTH]).config.as_yaml() == plain.as_yaml()


def test_each_block_begins_as_its_shortcut() -> None:
    given = "network.resnet18_cifar={width: 4, zero_init_residual: true}"
    choice = load_config(DIGITS, [given]).config.network
    network = build_network(NETWORKS.get(choice.name), choice.settings, 10, 1)
    plain = build_network(NETWORKS.get(choice.name), choice.settings.model_copy(
        update={"zero_init_residual": None}), 10, 1)  # fmt: skip
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    assert len(blocks) == 8
    assert all(bool((block.bn2.weight == 0).all()) for block in blocks)
    assert torch.equal(network.linear.weight, plain.linear.weight)  # nothing else is drawn anew


@pytest.mark.parametrize("given", ["in_channel: 1", "in_channel: true", "in_channel: [3]",
                                   "zero_init_residual: 1"])  # fmt: skip
def test_what_the_network_cannot_be_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"network\.resnet18_cifar\."):
        load_config(DIGITS, [f"network.resnet18_cifar={{{given}}}"])

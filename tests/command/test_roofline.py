"""The least time of a network: arithmetic and bytes by operation, against both peaks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from command.roofline import (
    Load,
    bound_by_memory,
    least_seconds,
    loads_of,
    map_copies,
    step_loads,
    totals,
)
from utils.device import processor_name


def layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())


def test_a_forward_counts_each_operand_once() -> None:
    convolution, norm = loads_of(layers(), (4, 4), batch=2, element=2)
    pixels = 2 * 4 * 4
    assert convolution.flops == 2 * pixels * 8 * 3 * 9
    assert convolution.bytes == 2 * (pixels * 3 + 8 * 3 * 9 + pixels * 8)
    assert norm.flops == 0
    assert norm.bytes >= 2 * 2 * pixels * 8  # read and written; ReLU could be fused, and is not


def test_a_step_has_two_forwards_and_three_with_backward() -> None:
    forward = totals(loads_of(layers(), (4, 4), batch=2, element=4)).flops
    # The first layer's backward is one product: nobody needs the images' gradient.
    assert totals(step_loads(layers(), (4, 4), batch=2, element=4)).flops == (2 + 3 * 2) * forward


def test_each_operation_is_held_up_by_the_slower_of_its_two() -> None:
    loads = [Load(100.0, 1.0), Load(1.0, 100.0)]
    assert least_seconds(loads, 10.0, 10.0) == 20.0
    assert bound_by_memory(loads, 10.0, 10.0) == 0.5
    assert bound_by_memory(loads, 10.0, 1e9) < 0.01


def test_the_network_itself_is_left_as_it_is() -> None:
    network = layers().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step_loads(network, (4, 4), batch=2, element=2)
    loads_of(network, (4, 4), batch=2, element=2)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_copies_say_how_much_they_move() -> None:
    copies, moved = map_copies(torch.device("cpu"))
    copies()
    assert moved > 2**20


def test_the_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError

    assert processor_name()
    monkeypatch.setattr("builtins.open", none)
    assert processor_name()

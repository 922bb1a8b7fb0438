"""Layers for compiled code compute what PyTorch's own do, and are them outside of it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from model.compiled import CompiledBatchNorm2d, CompiledConv2d, Normalisation, prepare
from model.convolution import Convolution
from model.place import place_network
from model.resnet_cifar import BasicBlock
from model.zones import zone_of, zones
from utils.engine import Engine

CPU = torch.device("cpu")


def gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Return the gradients of a weighted sum of `output`, the same weights each time."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    return list(torch.autograd.grad((output * weights.to(output.dtype)).sum(), inputs))


def random_inputs(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from([1, 3, 5]), st.integers(1, 4),
)  # fmt: skip
def test_a_convolution_and_its_gradients_are_pytorchs(
    count: int, into: int, out: int, height: int, width: int, kernel: int, stride: int
) -> None:
    images, weight = random_inputs((count, into, height, width), (out, into, kernel, kernel))
    ours = Convolution.apply(images, weight, stride)
    expected = functional.conv2d(images, weight, None, stride, kernel // 2)
    torch.testing.assert_close(ours, expected)
    pairs = zip(
        gradients(ours, [images, weight]), gradients(expected, [images, weight]), strict=True
    )
    for own, theirs in pairs:
        torch.testing.assert_close(own, theirs)


@given(st.integers(1, 9), st.sampled_from([1, 3, 5]), st.integers(1, 4))
def test_zones_hold_each_output_once_and_reach_what_its_window_reaches(
    size: int, kernel: int, stride: int
) -> None:
    ones = functional.conv1d(
        torch.ones(1, 1, size), torch.eye(kernel)[:, None], stride=stride, padding=kernel // 2
    )[0]  # (kernel, outputs): 1 where a tap lies on the map
    found = zones(size, kernel, stride)
    assert [k for zone in found for k in range(zone.start, zone.stop)] == [*range(ones.shape[1])]
    for tap, on_the_map in enumerate(ones):
        reached = [zone.first <= tap < zone.end for zone in found for _ in range(*zone[:2])]
        assert torch.equal(on_the_map.bool(), torch.tensor(reached))
        whole = zone_of(tap, size, kernel, stride)
        assert sum(reached) == (whole.stop - whole.start if whole else 0)


def test_compiled_gradients_are_the_eager_ones() -> None:
    """The compiler chooses the order of pixels in memory, so what it makes is tested apart.

    One graph (`fullgraph`), 4x4 maps of 32 channels: both convolutions and the shortcut's become
    products, with gradients of images, weights and BatchNorm.
    """
    torch.manual_seed(6)
    block = BasicBlock(32, 32, 2).train()
    images = torch.randn(8, 32, 8, 8).contiguous(memory_format=torch.channels_last)
    results = []
    for compiled in (False, True):
        own = copy.deepcopy(block)
        place_network(own, Engine(CPU, channels_last=True, compiled=compiled))
        network = torch.compile(own, fullgraph=True) if compiled else own
        given = images.clone().requires_grad_()
        output = network(given)
        results.append([output, *gradients(output, [given, *own.parameters()])])
    for own, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(2, 5))
def test_normalisation_and_its_gradients_are_pytorchs(
    count: int, channels: int, height: int, width: int
) -> None:
    inputs = random_inputs((count, channels, height, width), (channels,), (channels,))
    images, weight, bias = inputs
    ours, mean, variance = Normalisation.apply(images, weight, bias, 1e-5)
    expected = functional.batch_norm(images, None, None, weight, bias, training=True)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(mean, images.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(variance, images.var(dim=(0, 2, 3), correction=0))
    for own, theirs in zip(gradients(ours, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(own, theirs)


def test_a_far_mean_costs_no_digits() -> None:
    """The variance is that of centred values: a difference of squares would be off by 100 %."""
    images = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 3000
    variance = Normalisation.apply(images, torch.ones(2), torch.zeros(2), 1e-5)[2]
    torch.testing.assert_close(variance, images.double().var(dim=(0, 2, 3), correction=0).float())


def test_running_statistics_move_as_pytorchs() -> None:
    usual, compiled = nn.BatchNorm2d(3, momentum=0.3), CompiledBatchNorm2d(3, momentum=0.3)
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    for part in (images, 2 * images + 1):
        usual(part)
        _, mean, variance = Normalisation.apply(part, compiled.weight, compiled.bias, compiled.eps)
        compiled.follow(mean, variance, 100)
    for name, value in usual.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value)


def layers() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())


def test_outside_of_compiled_code_nothing_changes() -> None:
    usual, prepared = layers(), layers()
    prepare(prepared)
    assert [type(part) for part in prepared] == [CompiledConv2d, CompiledBatchNorm2d, nn.ReLU]
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(usual(images), prepared(images))
    usual_state, state = usual.state_dict(), copy.deepcopy(prepared).state_dict()
    assert list(usual_state) == list(state)
    assert all(torch.equal(usual_state[name], state[name]) for name in state)


def test_only_a_compiled_engine_on_the_cpu_prepares_a_network() -> None:
    assert type(place_network(layers(), Engine(CPU))[0]) is nn.Conv2d
    engine = Engine(CPU, channels_last=True, compiled=True)
    assert type(place_network(layers(), engine)[0]) is CompiledConv2d


@pytest.mark.parametrize(
    "changed",
    [
        {"bias": True}, {"groups": 2}, {"dilation": 2}, {"padding": 0}, {"kernel_size": (3, 1)},
        {"padding_mode": "circular"}, {"kernel_size": 2}, {"stride": (1, 2)},
    ],
)  # fmt: skip
def test_other_convolutions_stay_pytorchs(changed: dict[str, object]) -> None:
    plain = {"kernel_size": 3, "stride": 1, "padding": 1, "bias": False}
    assert CompiledConv2d(4, 4, **plain).is_plain()
    assert not CompiledConv2d(4, 4, **{**plain, **changed}).is_plain()


def test_small_maps_and_strided_shortcuts_pay() -> None:
    wide = CompiledConv2d(512, 512, 3, 1, 1, bias=False)
    assert wide.pays(torch.empty(64, 512, 4, 4))
    assert not wide.pays(torch.empty(64, 512, 16, 16))
    assert CompiledConv2d(64, 128, 1, 2, bias=False).pays(torch.empty(64, 64, 32, 32))
    assert not CompiledConv2d(64, 128, 1, 1, bias=False).pays(torch.empty(64, 64, 32, 32))

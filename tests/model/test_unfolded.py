"""A convolution as one large product, as processors with AMX take it, is PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from model import unfolded
from model.compiled import CompiledConv2d
from model.place import place_network
from model.resnet_cifar import BasicBlock
from utils.engine import Engine
from utils.precision import cpu_has

CPU = torch.device("cpu")
sizes = st.integers(1, 7)


@given(st.integers(1, 3), sizes, sizes, sizes, sizes, st.sampled_from([1, 3, 5]), st.integers(1, 3))
def test_results_and_gradients_are_pytorchs(
    count: int, into: int, out: int, height: int, width: int, kernel: int, stride: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    images, weight = (
        torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
        for size in ((count, into, height, width), (out, into, kernel, kernel))
    )
    expected = functional.conv2d(images, weight, None, stride, kernel // 2)
    gradient = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    expected.backward(gradient)
    given, factors = images.detach(), weight.detach()
    found = unfolded.convolve(given, factors, stride)
    torch.testing.assert_close(found, expected.detach())
    into_weight = unfolded.weight_gradient(given, gradient, kernel, stride)
    torch.testing.assert_close(into_weight, weight.grad)
    into_images = unfolded.image_gradient(gradient, factors, height, width, stride)
    torch.testing.assert_close(into_images, images.grad)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_the_compiler_is_told_the_truth_about_shapes(kernel: int, stride: int) -> None:
    images = torch.randn(2, 3, 8, 6).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(4, 3, kernel, kernel)
    gradient = functional.conv2d(images, weight, None, stride, kernel // 2)
    calls: list[tuple[object, tuple[object, ...]]] = [
        (unfolded.convolve, (images, weight, stride)),
        (unfolded.weight_gradient, (images, gradient, kernel, stride)),
        (unfolded.image_gradient, (gradient, weight, 8, 6, stride)),
    ]
    for function, arguments in calls:
        checks = ("test_schema", "test_faketensor")
        torch.library.opcheck(function, arguments, test_utils=checks)  # type: ignore[arg-type]


def block_results(block: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the output of `block` in bf16, and the gradients of a weighted sum of it."""
    given = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = block(given).float()
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    return [output, *torch.autograd.grad((output * weights).sum(), [given, *block.parameters()])]


def test_a_wide_block_in_bf16_computes_the_same_with_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also on a processor without AMX, which then gives slower, but equal results."""
    torch.manual_seed(6)
    images = torch.randn(4, 192, 4, 4).contiguous(memory_format=torch.channels_last)
    block = BasicBlock(192, 256, 2).train()
    expected = block_results(block, images)
    for place in ("model.compiled", "model.convolution", "model.place"):
        monkeypatch.setattr(f"{place}.has_amx", lambda: True)
    place_network(block, Engine(CPU, bf16=True, channels_last=True))
    assert type(block.conv1) is CompiledConv2d
    used = []
    real = unfolded.convolve
    monkeypatch.setattr(unfolded, "convolve", lambda *given: used.append(1) or real(*given))
    found = block_results(block, images)
    assert len(used) == 3
    for ours, theirs in zip(found, expected, strict=True):
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 0.02  # bf16 has three digits; BatchNorm and ReLU multiply their loss


@pytest.mark.parametrize("channels", [64, 128])
def test_narrow_layers_stay_pytorchs_bit_for_bit(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("model.compiled", "model.convolution", "model.place"):
        monkeypatch.setattr(f"{place}.has_amx", lambda: True)
    images = torch.randn(2, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    block = BasicBlock(channels, channels, 1).train()
    expected = block_results(block, images)
    place_network(block, Engine(CPU, bf16=True, channels_last=True))
    assert all(
        torch.equal(*pair) for pair in zip(block_results(block, images), expected, strict=True)
    )


def test_a_probe_that_this_pytorch_lacks_means_no() -> None:
    assert not cpu_has("_is_something_of_2040_supported")

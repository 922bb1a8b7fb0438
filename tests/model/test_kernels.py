"""The project's own kernels compute what PyTorch does, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from model import kernels
from model.fused import Normalised, Shifted, activated
from tests.model.kernel_cases import (
    BF16,
    FP32,
    ROUNDING,
    for_each_kind,
    for_each_vector,
    libraries,
    of_kind,
    random,
)

sizes, channels = st.integers(1, 9), st.integers(1, 70)
kinds = st.sampled_from(["none", "relu", "gelu"])


scalar_where_needed = pytest.fixture(scope="module", autouse=True)(libraries)


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Return whether the error is small beside the whole; what both lack is no error."""
    return bool((ours.float() - theirs).norm() <= tolerance * theirs.norm() + 1e-6)


@for_each_kind
@settings(deadline=None)
@given(st.integers(1, 5), channels, channels, st.integers(1, 19), st.integers(1, 19))
def test_the_weight_gradient_is_pytorchs(
    dtype: torch.dtype, count: int, into: int, out: int, height: int, width: int
) -> None:
    torch.manual_seed(count + into)
    images, gradient = random(count, into, height, width), random(count, out, height, width)
    weight = torch.zeros(out, into, 3, 3, requires_grad=True)
    functional.conv2d(images, weight, None, 1, 1).backward(gradient)
    found = kernels.weight_gradient(images.to(dtype), gradient.to(dtype))
    assert weight.grad is not None and found.dtype == torch.float32
    assert close(found, weight.grad, 1e-5)


@for_each_kind
def test_large_maps_and_groups_that_do_not_come_out_even(dtype: torch.dtype) -> None:
    for count, side in ((3, 45), (7, 10), (67, 3)):
        images, gradient = random(count, 33, side, side), random(count, 40, side, side)
        weight = torch.zeros(40, 33, 3, 3, requires_grad=True)
        functional.conv2d(images, weight, None, 1, 1).backward(gradient)
        assert weight.grad is not None
        found = kernels.weight_gradient(images.to(dtype), gradient.to(dtype))
        assert close(found, weight.grad, 1e-5)


def plain(
    images: Tensor, other: Tensor | None, weight: Tensor, bias: Tensor, half: bool, kind: str
) -> Tensor:
    values = functional.max_pool2d(images, 2) if half else images
    values = functional.batch_norm(values, None, None, weight, bias, training=True)
    return activated(values if other is None else values + other, kind)


@for_each_vector
@settings(deadline=None)
@given(st.integers(2, 5), channels, st.integers(2, 9), st.integers(2, 9), st.booleans(), kinds,
       st.booleans())  # fmt: skip
def test_normalising_and_its_gradients_are_pytorchs(
    dtype: torch.dtype,
    count: int,
    depth: int,
    height: int,
    width: int,
    half: bool,
    kind: str,
    more: bool,
) -> None:
    torch.manual_seed(depth)
    # Each value once: where two of four are the largest, both ways to pass the gradient are right,
    # and both take the first. No output near 0, where a gradient may be on either side of ReLU.
    images = random(count, depth, height, width)
    small = (height // 2, width // 2) if half else (height, width)
    other = random(count, depth, *small) if more else None
    weight, bias = torch.rand(depth) + 0.5, torch.randn(depth)
    given = [part.requires_grad_() for part in (images, other, weight, bias) if part is not None]
    expected = plain(images, other, weight, bias, half, kind)
    gradient = random(*expected.shape) * (expected.abs() > 1e-3)
    wanted = torch.autograd.grad(expected, given, gradient)
    cast = images.to(dtype), None if other is None else other.to(dtype)
    norm = nn.BatchNorm2d(depth, momentum=0.3)
    result = Normalised.apply(*cast, weight, bias, norm, half, kind)
    found = torch.autograd.grad(result, given, gradient.to(dtype))
    assert close(result, expected.detach(), ROUNDING[dtype])
    values = functional.max_pool2d(images, 2) if half else images
    following = nn.BatchNorm2d(depth, momentum=0.3)
    following(values.detach())
    for name in ("running_mean", "running_var"):
        expected_statistics = getattr(following, name)
        torch.testing.assert_close(getattr(norm, name), expected_statistics, rtol=1e-4, atol=1e-4)
    # The gradient of few pixels is what is left of far larger numbers.
    largest = gradient.norm() * values.detach().var(dim=(0, 2, 3)).add(norm.eps).rsqrt().max()
    tolerance = 3 * ROUNDING[BF16] if dtype == BF16 else 1e-5
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).norm() <= tolerance * (theirs.norm() + largest)


@for_each_vector
@given(kinds)
def test_activations_are_pytorchs_everywhere(dtype: torch.dtype, kind: str) -> None:
    values = torch.linspace(-12, 12, 4 * 6 * 8 * 16).view(4, 16, 6, 8).to(dtype)
    bias = torch.zeros(16, requires_grad=True)
    expected = activated(values.float() + bias[:, None, None], kind)
    gradient = torch.ones_like(expected)
    (wanted,) = torch.autograd.grad(expected, bias, gradient)
    result = Shifted.apply(values, bias, kind)
    (found,) = torch.autograd.grad(result, bias, gradient.to(dtype))
    least = 1e-4 if dtype == BF16 else 1e-6
    torch.testing.assert_close(result.float(), expected, rtol=ROUNDING[dtype], atol=least)
    torch.testing.assert_close(found, wanted, rtol=least, atol=10 * least)


@for_each_vector
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_what_is_no_number_stays_none(corner: tuple[int, int], dtype: torch.dtype) -> None:
    images = torch.zeros(2, 16, 4, 4, dtype=dtype)
    images[0, 3, corner[0], corner[1]] = float("nan")
    ones, zeros = torch.ones(16), torch.zeros(16)
    for half in (False, True):
        for kind in kernels.ACTIVATIONS:
            maps = kernels.dense(images)
            result = kernels.scale_map(maps, None, ones, zeros, half, kind)
            assert result.isnan().sum() == 1 and result[:, 3].isnan().any()
            result = Normalised.apply(images, None, ones, zeros, nn.BatchNorm2d(16), half, kind)
            assert result[:, 3].isnan().all() and not result[:, :3].isnan().any()


@of_kind(FP32)
@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
def test_a_mean_far_from_0_costs_as_little_as_with_pytorch(mean: float) -> None:
    torch.manual_seed(5)
    images = (torch.randn(16, 24, 9, 9) + mean).to(memory_format=torch.channels_last)
    weight, bias, gradient = torch.rand(24) + 0.5, torch.randn(24), torch.randn(16, 24, 9, 9)
    images.requires_grad_()

    def slopes(result: Tensor) -> Tensor:
        return torch.autograd.grad(result, images, gradient.to(result.dtype))[0]

    exact = slopes(plain(images.double(), None, weight.double(), bias.double(), False, "none"))
    usual = slopes(plain(images, None, weight, bias, False, "none"))
    own = slopes(Normalised.apply(images, None, weight, bias, nn.BatchNorm2d(24), False, "none"))
    assert (own - exact).norm() <= 2 * (usual - exact).norm() + 1e-6 * exact.norm()

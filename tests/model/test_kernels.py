"""The project's own kernels compute what PyTorch does, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from model import NETWORKS, build_network, kernels
from model.compiled import CompiledBatchNorm2d, CompiledConv2d
from model.fused import Normalised, Shifted, activated, convolved, normalise
from model.place import place_network
from model.synchronised import SharedBatchNorm2d
from utils.engine import Engine
from utils.native_code import library

CPU = torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32
ROUNDING = {
    BF16: 2**-8,
    FP32: 2**-18,
}  # relative to the largest of a few numbers, in fp32 of several


def of_kind(dtype: torch.dtype) -> pytest.MarkDecorator:
    """Skip where this processor, or its compiler, has no kernels for maps of `dtype`."""
    kind = kernels.KINDS[dtype]
    missing = isinstance(library(kind), str)
    return pytest.mark.skipif(missing, reason=f"a processor with {kind.upper()}, and a C compiler")


for_each_kind = pytest.mark.parametrize(
    "dtype", [pytest.param(dtype, marks=of_kind(dtype)) for dtype in kernels.KINDS]
)
sizes, channels = st.integers(1, 9), st.integers(1, 70)
kinds = st.sampled_from(["none", "relu", "gelu"])


def random(*size: int) -> Tensor:
    """Return numbers that bf16 holds, fp32, with a mean that is not 0."""
    return (torch.randn(size) * 2 + 0.7).bfloat16().float()


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


@for_each_kind
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
    if dtype == BF16:
        assert all(close(*pair, 3 * ROUNDING[BF16]) for pair in zip(found, wanted, strict=True))
    else:  # the gradient of few pixels is what is left of far larger numbers
        largest = gradient.norm() * values.detach().var(dim=(0, 2, 3)).add(norm.eps).rsqrt().max()
        for ours, theirs in zip(found, wanted, strict=True):
            assert (ours - theirs).norm() <= 1e-5 * (theirs.norm() + largest)


@for_each_kind
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


@for_each_kind
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


def fastnet() -> nn.Module:
    kind = NETWORKS.get("fastnet")
    network = build_network(kind, kind.Settings.model_validate({"width": 16}), 10, 3)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return network.to(memory_format=torch.channels_last)


def results(network: nn.Module, images: Tensor, bf16: bool) -> list[Tensor]:
    """Return logits, the gradients, the statistics thereafter, and logits by these."""
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = network(images)
    slopes = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
    statistics = [part.clone().double() for part in network.buffers()]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16), torch.no_grad():
        by_statistics = network.eval()(images)
    return [logits.detach(), *slopes, *statistics, by_statistics]


@for_each_kind
def test_a_network_is_as_close_to_the_exact_one_as_without(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(6)
    images, bf16 = torch.randn(32, 32, 32, 3).permute(0, 3, 1, 2), dtype == BF16
    usual = fastnet()
    own = place_network(copy.deepcopy(usual), Engine(CPU, bf16, True, own_kernels=True))
    exact = results(copy.deepcopy(usual).double(), images.double(), bf16=False)
    called: list[str] = []
    real = kernels.call
    monkeypatch.setattr(kernels, "call", lambda *given: called.append(given[0]) or real(*given))
    found = results(own, images, bf16)
    assert set(called) == {
        "normalise_map", "normalise_gradient", "weight_gradient", "scale_map", "sum_gradients",
    }  # fmt: skip
    # A quarter of a rounding: errors of statistics are small, and a matter of luck. In fp32 as
    # much, since of two nearly equal pixels either may be the maximum, and pass the gradient on.
    for ours, theirs, truth in zip(found, results(usual, images, bf16), exact, strict=True):
        allowed = 1.1 * (theirs - truth).norm() + ROUNDING[BF16] / 4 * truth.norm()
        assert (ours - truth).norm() <= allowed


@pytest.mark.parametrize("dtype", [BF16, FP32])
def test_where_they_do_not_fit_pytorchs_are_taken(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "call", lambda *_: pytest.fail("not here"))
    norm, layer = CompiledBatchNorm2d(16).eval(), CompiledConv2d(3, 16, 2)
    norm.own_dtype = layer.own_dtype = dtype  # type: ignore[assignment]
    images = torch.randn(2, 16, 4, 4)
    for other in {BF16, FP32, torch.float64} - {dtype}:
        strange = images.to(other)
        if other == torch.float64:
            norm = norm.double()
        assert torch.equal(normalise(norm, strange, "relu"), functional.relu(norm(strange)))
        norm = norm.float()
    fitting = images.to(dtype)  # eval, with a gradient through the weight
    assert torch.equal(normalise(norm, fitting, "gelu"), functional.gelu(norm(fitting)))
    assert normalise(copy.deepcopy(norm).to("meta").train(), fitting.to("meta"), "gelu").is_meta
    seen: list[Tensor] = []
    norm.train().register_forward_hook(lambda _m, _i, output: seen.append(output))
    normalise(norm, fitting, "none")  # who looks at the layer sees what it gives
    assert len(seen) == 1
    colours = torch.randn(2, 3, 5, 5)
    with torch.autocast("cpu", dtype=BF16, enabled=dtype == FP32):
        assert torch.equal(convolved(layer, colours, "gelu"), functional.gelu(layer(colours)))


def fitted(dtype: torch.dtype) -> nn.BatchNorm2d:
    """Return a normalisation of 16 channels that was told to use the own kernels."""
    norm = CompiledBatchNorm2d(16).train()
    norm.own_dtype = dtype  # type: ignore[assignment]
    return norm


@for_each_kind
def test_wrong_sizes_are_left_to_pytorch(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match="running_mean"):
        normalise(fitted(dtype), torch.randn(2, 48, 4, 4, dtype=dtype), "relu")
    with pytest.raises(RuntimeError, match="too small"):
        normalise(fitted(dtype), torch.randn(2, 16, 1, 1, dtype=dtype), "relu", half=True)
    images, one = torch.randn(2, 16, 4, 4, dtype=dtype), torch.randn(1, 16, 1, 1, dtype=dtype)
    expected = functional.relu(nn.BatchNorm2d(16)(images) + one)
    assert torch.equal(normalise(fitted(dtype), images, "relu", other=one), expected)


@for_each_kind
def test_a_batch_of_nothing_has_a_gradient_of_zeros(dtype: torch.dtype) -> None:
    found = kernels.weight_gradient(
        torch.empty(0, 16, 8, 8, dtype=dtype), torch.empty(0, 24, 8, 8, dtype=dtype)
    )
    assert torch.equal(found, torch.zeros(24, 16, 3, 3))


@for_each_kind
def test_a_second_gradient_is_refused_not_left_out(dtype: torch.dtype) -> None:
    images = torch.randn(4, 16, 4, 4, dtype=dtype, requires_grad=True)
    result = normalise(fitted(dtype), images, "gelu")
    (slope,) = torch.autograd.grad(result.float().square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.float().square().sum().backward()


@for_each_kind
def test_a_network_that_is_placed_anew_forgets_them(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a run's network is the reference of `--bench`, and on `meta` counts arithmetic."""
    own = place_network(fastnet(), Engine(CPU, dtype == BF16, True, own_kernels=True))
    assert own.to("meta")(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    reference = place_network(
        place_network(fastnet(), Engine(CPU, dtype == BF16, True, own_kernels=True)), Engine(CPU)
    )
    monkeypatch.setattr(kernels, "call", lambda *_: pytest.fail("not here"))
    results(reference, torch.randn(4, 3, 32, 32), bf16=dtype == BF16)


def test_statistics_of_all_processes_are_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `sync_bn` a batch is that of all processes, which the own kernels do not see."""
    called: list[Tensor] = []

    def forward(self: SharedBatchNorm2d, images: Tensor) -> Tensor:
        called.append(images)
        return images

    monkeypatch.setattr(SharedBatchNorm2d, "forward", forward)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), SharedBatchNorm2d(16)).train()
    place_network(network, Engine(CPU, bf16=True, channels_last=True, own_kernels=True))
    images = random(4, 16, 8, 8).bfloat16()
    normalise(network[1], images, "relu")  # type: ignore[arg-type]
    assert len(called) == 1


@for_each_kind
def test_a_batch_gives_the_same_bits_with_any_number_of_threads(dtype: torch.dtype) -> None:
    """Of weight gradients each thread has a share, as in PyTorch; all else is image by image."""
    torch.manual_seed(1)
    images, ones, zeros = random(5, 24, 6, 6).to(dtype), torch.ones(24), torch.zeros(24)
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        norm = nn.BatchNorm2d(24)
        result = Normalised.apply(images, None, ones, zeros, norm, True, "gelu")
        found.append([result, norm.running_mean, norm.running_var])
    torch.set_num_threads(threads)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )

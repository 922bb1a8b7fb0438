"""Networks use the project's own kernels where these fit, and PyTorch's operators elsewhere."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model import NETWORKS, build_network, kernels
from model.compiled import CompiledBatchNorm2d, CompiledConv2d
from model.fused import Normalised, convolved, normalise
from model.place import place_network
from model.synchronised import SharedBatchNorm2d
from tests.model.kernel_cases import BF16, FP32, ROUNDING, for_each_kind, random
from utils.engine import Engine

CPU = torch.device("cpu")


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
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            norm = nn.BatchNorm2d(24)
            result = Normalised.apply(images, None, ones, zeros, norm, True, "gelu")
            found.append([result, norm.running_mean, norm.running_var])
    finally:
        torch.set_num_threads(threads)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )

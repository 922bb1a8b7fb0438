"""The fast path computes what the reference path does; images may stay where they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import ASD
from benchmark.scale import in_own_process
from command.timing import Timing, in_turns
from data.feed import Feed, consecutive
from data.poison import TrainingSet
from model import NETWORKS, build_network
from model.place import place_network
from model.resnet_cifar import BasicBlock, convolution
from run.checkpoint import LATEST, load_checkpoint
from tests.conftest import colourful_images
from tests.model.kernel_cases import BF16, FP32, of_kind
from training.mixmatch import Batch, Mix, MixMatch
from utils.device import processor_name
from utils.engine import Engine, choose_engine
from utils.errors import InputError
from utils.speed import SpeedSettings
from utils.world import ALONE

CPU = torch.device("cpu")
BATCH = 16


def narrow(width: int) -> nn.Module:
    network_class = NETWORKS.get("resnet18_cifar")
    return build_network(network_class, network_class.Settings(width=width), 4, 7)


def laptop() -> nn.Module:
    network_class = NETWORKS.get("fastnet")
    return build_network(network_class, network_class.Settings(width=16), 4, 7)


def few_layers() -> nn.Module:
    """Return a network with BatchNorm, a residual connection, and both ways to convolve.

    Maps of 4x4 are small enough for matrix products, those of 16x16 are not.
    """
    torch.manual_seed(7)
    return nn.Sequential(
        convolution(3, 16, 3, 1),
        BasicBlock(16, 32, 4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def losses_of(
    engine: Engine, steps: int, size: int = 16, network: nn.Module | None = None
) -> Tensor:
    """Return the losses (steps, 3) of a network on fixed, learnable batches."""
    network = narrow(16) if network is None else copy.deepcopy(network)
    place_network(network, engine)
    # Not Adam: it divides by the size of the gradient, and blows up the last digits of tiny ones.
    optimizer = torch.optim.SGD(network.train().parameters(), lr=1e-4)
    mixmatch = MixMatch(network, optimizer, engine, 0.5)
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(4, 3, 1, 1, generator=generator)
    losses = []
    for step in range(steps):
        labels, others = torch.randint(4, (2, BATCH), generator=generator)
        noise = torch.randn(3, BATCH, 3, size, size, generator=generator)
        views = [
            (means[kind] + part).to(engine.device)
            for kind, part in zip((labels, others, others), noise, strict=True)
        ]
        share = torch.rand((), generator=generator).to(engine.device)
        permutation = torch.randperm(3 * BATCH, generator=generator).to(engine.device)
        batch = Batch(views[0], labels.to(engine.device), (views[1], views[2]))
        losses.append(mixmatch.step(batch, Mix(share, permutation), 15 * step / steps))
    return torch.stack(losses)


def test_in_fp32_the_fast_step_is_the_reference_step() -> None:
    reference = losses_of(Engine(CPU), 20)
    fast = losses_of(Engine(CPU, channels_last=True), 20)
    torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-5)


@of_kind(FP32)
@pytest.mark.parametrize("build", [lambda: narrow(16), laptop])
def test_in_fp32_a_step_with_own_kernels_is_the_reference_step(
    build: Callable[[], nn.Module],
) -> None:
    reference = losses_of(Engine(CPU), 20, network=build())
    own = losses_of(Engine(CPU, channels_last=True, own_kernels=True), 20, network=build())
    torch.testing.assert_close(own, reference, rtol=1e-5, atol=1e-5)


def test_the_compiled_step_is_the_reference_step() -> None:
    network = few_layers()  # of a whole ResNet-18 the translation takes minutes on a slow machine
    reference = losses_of(Engine(CPU), 20, network=network)
    compiled = losses_of(Engine(CPU, channels_last=True, compiled=True), 20, network=network)
    torch.testing.assert_close(compiled, reference, rtol=1e-5, atol=1e-5)


def test_in_bf16_the_losses_follow_the_reference_within_a_band() -> None:
    """Means over 20 steps differ by less than 0.05 + 10 % over 200 steps."""
    reference = losses_of(Engine(CPU), 200, size=8)
    fast = losses_of(Engine(CPU, bf16=True, channels_last=True), 200, size=8)
    means = [losses.unflatten(0, (10, 20)).mean(dim=1) for losses in (fast, reference)]
    torch.testing.assert_close(means[0], means[1], rtol=0.1, atol=0.05)
    assert means[1][-1, 1] < means[1][0, 1]  # and they do fall


@of_kind(BF16)
def test_with_own_kernels_the_losses_follow_the_reference_within_the_same_band() -> None:
    reference = losses_of(Engine(CPU), 200, network=laptop())
    own = Engine(CPU, bf16=True, channels_last=True, own_kernels=True)
    fast = losses_of(own, 200, network=laptop())
    means = [losses.unflatten(0, (10, 20)).mean(dim=1) for losses in (fast, reference)]
    torch.testing.assert_close(means[0], means[1], rtol=0.1, atol=0.05)
    assert means[1][-1, 1] < means[1][0, 1]


def test_auto_chooses_no_layout_that_crashes() -> None:
    assert not choose_engine(CPU, SpeedSettings(), narrow(8), ALONE).channels_last
    assert choose_engine(CPU, SpeedSettings(), narrow(16), ALONE).channels_last
    for key in ("channels_last", "compile"):
        with pytest.raises(InputError, match=f"speed.{key}: true"):
            choose_engine(CPU, SpeedSettings.model_validate({key: True}), narrow(8), ALONE)
    asked = SpeedSettings(reference=True, compile=True)
    assert choose_engine(CPU, asked, narrow(16), ALONE) == Engine(CPU, speed=asked)


orders = st.lists(st.integers(0, 19), min_size=1, max_size=50).map(torch.tensor)


@given(orders, st.integers(1, 9))
def test_mapped_images_come_as_resident_ones_do(order: Tensor, batch: int) -> None:
    resident = TrainingSet(colourful_images(20, 4), torch.arange(20) % 2, ("a", "b"))
    mapped = replace(resident, mapped=True)
    parts = consecutive(0, len(order), batch)
    pairs = zip(Feed(resident, order, parts), Feed(mapped, order, parts), strict=True)
    count = 0
    for (whole, places), (rows, own) in pairs:
        assert torch.equal(whole[places], rows[own])
        assert len(rows) == len(own) <= batch
        count += len(own)
    assert count == len(order)


def test_a_run_whose_images_do_not_fit_gives_the_same_bits(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    states = []
    for budget in ("auto", "0"):
        storage = tmp_path / budget
        given = [*tiny_arguments, f"speed.memory_budget={budget}", f"storage_dir={storage}"]
        assert ASD.main(given) == 0
        states.append(load_checkpoint(storage / "digits" / "checkpoint" / LATEST))
    first, second = (state["model_state_dict"] for state in states)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_works_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    timings = in_turns(works, CPU, repeats=3, warmup=2)  # type: ignore[arg-type]
    assert calls == ["a", "b"] * 5
    assert len(timings["a"].seconds) == 3
    assert Timing((1.0, 2.0, 9.0)).median == 2.0
    assert Timing((4.0,)).spread == 0.0


@pytest.mark.parametrize("what", ["class-aware", "mapped"])
def test_growth_is_measured_in_a_process_of_its_own(what: str) -> None:
    result = in_own_process(what, 1000)
    assert result["samples"] == 1000
    assert result["seconds"] > 0
    assert 2**25 < result["bytes"] < 2**32


PEAKS = ("matrix product", "copy of a map")


def test_bench_reports_all_parts(
    tiny_arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("command.bench.FOLDER", tmp_path / "bench")
    monkeypatch.setattr("command.bench.REPEATS", 2)
    assert ASD.main([*tiny_arguments, "--bench"]) == 0
    report = json.loads(next((tmp_path / "bench").glob("*.json")).read_text())
    names = {part["name"]: set(part["timings"]) for part in report["parts"]}
    assert names["MixMatch step"] == {"conventional", "reference", "fast", *PEAKS}
    assert names["data path"] == {"conventional", "fast"}
    assert set(names) >= {"record pass", "virtual-model step", "test pass"}
    assert report["projected_seconds"]["fast"] > 0
    assert all(part["of_the_roofline"] > 0 for part in report["parts"] if part["flops"])
    assert report["processor"] == processor_name()
    products = [part for part in report["parts"] if part["product_flops"] > 0]
    assert [part["name"] for part in products] == ["MixMatch step", "record pass"]
    assert all(len(part["timings"]["matrix product"]) == 2 for part in products)
    assert "MixMatch step" in capsys.readouterr().out
    assert not (tmp_path / "digits").exists()


def test_a_narrow_network_never_sees_channels_last() -> None:
    """PyTorch takes the layout of the input for all feature maps, and corrupts memory then."""
    kind = NETWORKS.get("resnet18_cifar")
    network = build_network(kind, kind.Settings(width=4), 10, 0)
    place_network(network, Engine(torch.device("cpu"), channels_last=False))
    layouts = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _m, given, _o: layouts.append(given[0].stride(1)))
    network(torch.rand(5, 16, 16, 3).permute(0, 3, 1, 2))
    assert layouts and 1 not in layouts

"""The engine's choice on machines that this one is not, and what it does when a choice fails."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.poison import TrainingSet
from data.transform import Chain, Draws, Normalize
from loss.cross_entropy import CrossEntropy
from model import build_network
from model.from_torchvision import Torchvision
from model.place import place_network
from tests.conftest import colourful_images
from tests.training.test_speed import few_layers, narrow
from training.mixmatch import Batch, Mix, MixMatch
from training.supervised import Supervised
from utils import compiler
from utils.compiler import keep_translations, short_reason, translated, why_not
from utils.device import find_device
from utils.engine import Engine, choose_engine, settled
from utils.errors import InputError
from utils.precision import make_repeatable
from utils.speed import SpeedSettings
from utils.translation import Steps
from utils.world import ALONE

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
LONG = [Steps(100_000, 5, 3, 64)]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """Two GPUs that are not there, a T4 and an A100; return their compute capabilities."""
    capabilities = {0: (7, 5), 1: (8, 0)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # it counts emulation
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: capabilities[torch.device(device).index]
    )
    monkeypatch.setattr("utils.engine.why_not", lambda _: None)
    return capabilities


@pytest.mark.parametrize(
    ("capability", "native"),
    [((6, 0), False), ((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)],
)
def test_bf16_is_chosen_where_the_runs_own_gpu_has_it(
    two_gpus: dict[int, tuple[int, int]], capability: tuple[int, int], native: bool
) -> None:
    for number in (0, 1):  # whatever the other, current one has
        two_gpus |= {number: capability, 1 - number: (8, 0) if not native else (7, 5)}
        device = torch.device("cuda", number)
        assert choose_engine(device, SpeedSettings(), narrow(16), ALONE).bf16 is native
    forced = SpeedSettings(precision="bf16")
    assert choose_engine(GPU, forced, narrow(16), ALONE).bf16


@pytest.mark.parametrize("requested", ["1", "0,1"])
def test_the_runs_gpu_is_the_current_one(
    two_gpus: Any, monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setenv("LOCAL_RANK", "1" if "," in requested else "0")
    device, _ = find_device(requested)
    assert current == [device] == [GPU]


def test_a_gpu_that_is_not_there_or_not_free_is_named(
    two_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(InputError, match="3 processes"):
        find_device(None)
    for requested in ("2", "0,7", "x", "0,0", "cpu,1,1"):
        with pytest.raises(InputError, match=f"--gpu {requested}"):
            find_device(requested)


@pytest.mark.parametrize("reference", [True, False])
def test_the_reference_computes_without_tf32(
    monkeypatch: pytest.MonkeyPatch, reference: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", reference)  # as it must not stay
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        make_repeatable(deterministic=False, benchmark=False, reference=reference)
        assert torch.backends.cudnn.allow_tf32 is not reference
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_nothing_is_compiled_where_the_probe_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(function: Any, **_: Any) -> Any:
        raise RuntimeError("Failed to find C compiler\nand a page of what was tried")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr("utils.engine.has_own_kernels", lambda bf16: False)  # may say a line
    why_not.cache_clear()
    engine = choose_engine(CPU, SpeedSettings(compile=True), narrow(16), ALONE)
    why_not.cache_clear()
    assert not engine.compiled
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["speed.compile: not compiled, since RuntimeError: Failed to find C compiler"]


def test_the_probe_notices_a_wrong_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compiled", lambda *_: lambda values: (values * 3).sum())
    why_not.cache_clear()
    assert why_not(CPU) == "translated code gave a wrong number"
    why_not.cache_clear()


def test_a_step_that_cannot_be_translated_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    calls = [0]

    def broken(function: Any, **_: Any) -> Any:
        def call(*given: Any) -> Any:
            calls[0] += 1
            raise TorchDynamoException("no such kernel")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    double = translated(lambda values: values * 2, CPU)
    for _ in range(2):
        assert torch.equal(double(torch.ones(2)), torch.full((2,), 2.0))
    assert calls == [1]
    assert capsys.readouterr().out.count("no such kernel") == 1


def test_a_translation_says_that_it_takes_a_while_and_stays_in_the_project(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    double = translated(lambda values: values * 2, CPU)
    for _ in range(3):
        double(torch.ones(2))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["translating", "translated"]
    for given, expected in ((None, str(tmp_path / "kept")), ("mine", "mine")):
        monkeypatch.setattr(compiler, "CACHE", tmp_path / "kept")
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        if given:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", given)
        keep_translations()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == expected
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(compiler, "CACHE", tmp_path / "file" / "below")
    keep_translations()  # where nothing can be kept, PyTorch finds a place


def test_other_errors_of_a_translated_step_are_its_own() -> None:
    def broken(_: Tensor) -> Tensor:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        translated(torch.compiler.disable(broken), CPU)(torch.ones(2))


def test_a_reason_is_one_line_and_short() -> None:
    assert short_reason(RuntimeError("\n\n  first\nsecond")) == "RuntimeError: first"
    assert short_reason(ValueError()) == "ValueError"
    assert len(short_reason(RuntimeError("x" * 999))) <= 120


@pytest.mark.parametrize("asked", ["auto", False])
def test_nothing_is_translated_before_the_run_is_known(two_gpus: Any, asked: Any) -> None:
    speed = SpeedSettings(compile=asked)
    assert not choose_engine(GPU, speed, narrow(16), ALONE).compiled
    assert choose_engine(GPU, SpeedSettings(compile=True), narrow(16), ALONE).compiled


def test_a_cpu_translates_only_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.engine.why_not", lambda _: None)
    for bf16 in (True, False):
        monkeypatch.setattr("utils.engine.native_bf16", lambda _, bf16=bf16: bf16)
        for width in (16, 64):
            assert not choose_engine(CPU, SpeedSettings(), narrow(width), ALONE).compiled
            assert choose_engine(CPU, SpeedSettings(compile=True), narrow(width), ALONE).compiled


def with_dropout() -> nn.Module:
    return build_network(Torchvision, Torchvision.Settings(name="mobilenet_v3_small"), 4, 7)


def test_a_network_that_draws_random_numbers_is_not_compiled(
    two_gpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for speed in (SpeedSettings(), SpeedSettings(compile=True)):
        engine = choose_engine(GPU, speed, with_dropout(), ALONE)
        assert not settled(engine, with_dropout(), (64, 64), LONG).compiled
    assert capsys.readouterr().out.count("draws random numbers") == 2
    plain = build_network(Torchvision, Torchvision.Settings(name="resnet18"), 4, 7)
    for network in (plain, narrow(16)):
        engine = choose_engine(GPU, SpeedSettings(), network, ALONE)
        assert settled(engine, network, (32, 32), LONG).compiled


def some_images(count: int) -> TrainingSet:
    return TrainingSet(colourful_images(count, 16), torch.arange(count) % 4, ("a", "b", "c", "d"))


def supervised(engine: Engine, network: nn.Module, count: int) -> Supervised:
    """Return supervised steps on so many images, without augmentation."""
    ground: Any = SimpleNamespace(
        engine=engine,
        training=some_images(count),
        chain=Chain([], Normalize(mean=[0.5] * 3, std=[0.25] * 3), 16, 16),
    )
    place_network(network.train(), engine)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    return Supervised(ground, network, optimizer, CrossEntropy(CrossEntropy.Settings()))


def test_old_gradients_are_gone_before_the_forward() -> None:
    """CUDA graphs keep one pool of memory for a step, in which they must not lie."""
    network, left = few_layers().train(), list[bool]()
    network.register_forward_pre_hook(
        lambda *_: left.append(any(p.grad is not None for p in network.parameters()))
    )
    mixmatch = MixMatch(network, torch.optim.SGD(network.parameters(), lr=0.1), Engine(CPU), 0.5)
    views = torch.rand(3, 4, 3, 16, 16)
    batch = Batch(views[0], torch.arange(4), (views[1], views[2]))
    for _ in range(2):
        mixmatch.step(batch, Mix(torch.tensor(0.3), torch.randperm(12)), 1.0)
    list(supervised(Engine(CPU), network, 8).steps(torch.arange(8), Draws([]), 4))
    assert left == [False] * (2 * 5 + 2)


def test_the_translated_supervised_step_is_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for a smaller last batch, for which nothing is translated."""
    shapes, real = [], torch.compile

    def counting(function: Any, **more: Any) -> Any:
        translated = real(function, **more)

        def call(*given: Any) -> Any:
            shapes.append(len(given[-1]))
            return translated(*given)

        return call

    monkeypatch.setattr(torch, "compile", counting)
    losses = []
    for compiled in (False, True):
        engine = Engine(CPU, channels_last=True, compiled=compiled)
        steps = supervised(engine, few_layers(), 20).steps(torch.arange(20), Draws([]), 8)
        losses.append(torch.stack(list(steps)))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    if "not compiled" in capsys.readouterr().out:  # PyTorch 2.6 cannot translate it
        pytest.skip("this PyTorch does not translate the step; it was taken as it is")
    assert shapes == [8, 8, 8]  # one to try whether it is right

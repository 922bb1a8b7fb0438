"""What only a real GPU can show, and is skipped without one; `test_gpu.py` has the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from command.check import estimated_bytes
from loss import CRITERIA
from model import NETWORKS, build_network
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from tests.run.test_resume import assert_same_end
from tests.training.test_speed import few_layers, losses_of
from training.mixmatch import MixMatch
from training.record import record_losses
from training.supervised import Supervised
from utils.engine import Engine, choose_engine
from utils.files import PROJECT
from utils.interrupt import Interrupt
from utils.speed import SpeedSettings
from utils.world import ALONE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
GPU = torch.device("cuda", 0)
STEPS = 8  # of an epoch


def arguments(storage: Path, *more: str) -> list[str]:
    """Return the command line of a run of seconds on the first GPU."""
    small = ["network.resnet18_cifar.width=16", f"semi.mixmatch.train_iteration={STEPS}"]
    return [
        *("--config", str(DIGITS), "--gpu", "0", *TINY, *small, f"storage_dir={storage}"),
        *more,
    ]


@contextmanager
def waits_are_errors() -> Iterator[None]:
    """Let PyTorch raise where the host would wait for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_no_step_waits_for_the_gpu(tmp_path: Path, compiled: str) -> None:
    given = parse_arguments(arguments(tmp_path, f"speed.compile={compiled}"))
    session = ASD.prepare(set_up(given, Interrupt()))
    steps = session.defense.steps(0, session.defense.split(0).clean, 0)
    for _ in range(3):  # they draw the epoch's random numbers, allocate, translate, record
        next(steps)
    with waits_are_errors():
        losses = [next(steps) for _ in range(STEPS - 3)]
    assert bool(torch.stack(losses).isfinite().all())


def test_passes_over_all_samples_wait_for_nothing(tmp_path: Path) -> None:
    given = parse_arguments(arguments(tmp_path))
    session = ASD.prepare(set_up(given, Interrupt()))
    ground, network = session.defense.setting.ground, session.network
    criterion = CRITERIA.get("cross_entropy")(CRITERIA.get("cross_entropy").Settings())
    draws = ground.chain.draw(64, torch.Generator()).to(GPU)
    order = torch.arange(64, device=GPU)
    virtual = Supervised(ground, network, session.learner.optimizer, criterion)

    def passes() -> list[torch.Tensor]:
        losses = record_losses(network, ground, criterion, torch.Generator().manual_seed(0))
        network.train()
        return [losses, *virtual.steps(order, draws, 16)]

    for _ in range(3):
        passes()
    with waits_are_errors():
        found = passes()
    assert all(bool(losses.isfinite().all()) for losses in found)


def test_the_papers_step_follows_the_reference_within_a_band() -> None:
    """20 steps of the baseline's network at its full width, in bf16 and compiled."""
    kind = NETWORKS.get("resnet18_cifar")
    network = build_network(kind, kind.Settings.model_validate({"width": 64}), 4, 7)
    engine = choose_engine(GPU, SpeedSettings(compile=True), network, ALONE)
    assert engine.channels_last
    reference = losses_of(Engine(GPU), 20, size=32, network=network)
    fast = losses_of(engine, 20, size=32, network=network)
    torch.testing.assert_close(fast.mean(dim=0), reference.mean(dim=0), rtol=0.1, atol=0.05)


def test_memory_stays_within_what_the_plan_says(tmp_path: Path) -> None:
    """A second epoch takes no more than the first, and the first no more than twice the plan."""
    given = parse_arguments(arguments(tmp_path, "speed.compile=false"))
    session = ASD.prepare(set_up(given, Interrupt()))
    torch.cuda.reset_peak_memory_stats()
    peaks = []
    for epoch in range(3):
        list(session.defense.steps(epoch, session.defense.split(epoch).clean, 0))
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[2] <= peaks[1] * 1.01
    assert peaks[2] <= 2 * sum(estimated_bytes(session).values()) + 2**28  # and cuDNN's workspace


def test_two_runs_share_a_card(tmp_path: Path) -> None:
    """Each takes its part of what is free, and ends with the bits of a run alone."""
    exact = "seed.deterministic=true"
    code = "import sys, ASD; sys.exit(ASD.main(sys.argv[1:]))"
    folders = [tmp_path / name for name in ("first", "second")]
    running = [
        subprocess.Popen([sys.executable, "-c", code, *arguments(folder, exact)], cwd=PROJECT)
        for folder in folders
    ]
    assert [process.wait(timeout=200) for process in running] == [0, 0]
    assert_same_end(*folders)


def test_too_little_memory_ends_a_run_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        assert ASD.main(arguments(tmp_path)) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert capsys.readouterr().err.startswith("error: not enough memory on the GPU")


@pytest.mark.parametrize("compiled", [False, True])
def test_in_fp32_the_fast_step_is_the_reference_step(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GPU
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    reference = losses_of(Engine(gpu), 20, network=few_layers())
    engine = Engine(gpu, channels_last=True, compiled=compiled)
    fast = losses_of(engine, 20, network=few_layers())
    torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_a_stopped_run_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: str
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    exact = ["seed.deterministic=true", f"speed.compile={compiled}"]
    assert ASD.main(arguments(whole, *exact)) == 0
    result = json.loads((whole / "digits" / "result.json").read_text())
    assert result["device"] == torch.cuda.get_device_name(0)
    steps, real = [0], MixMatch.step

    def step_and_signal(*given: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == 5 * STEPS + 3:  # in stage 2
            os.kill(os.getpid(), signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(MixMatch, "step", step_and_signal)
    assert ASD.main(arguments(stopped, *exact)) == 128 + signal.SIGINT
    assert ASD.main(arguments(stopped, *exact)) == 0
    assert_same_end(stopped, whole)

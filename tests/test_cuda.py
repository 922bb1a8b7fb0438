"""What only a real GPU can show, and is skipped without one; `test_gpu.py` has the rest."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from tests.conftest import DIGITS, TINY
from tests.run.test_resume import assert_same_end
from tests.training.test_speed import few_layers, losses_of
from training.mixmatch import MixMatch
from utils.engine import Engine
from utils.interrupt import Interrupt

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
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
    session = ASD.prepare(given, Interrupt())
    steps = session.defense.steps(0, session.defense.split(0).clean, 0)
    for _ in range(3):  # they draw the epoch's random numbers, allocate, translate, record
        next(steps)
    with waits_are_errors():
        losses = [next(steps) for _ in range(STEPS - 3)]
    assert bool(torch.stack(losses).isfinite().all())


@pytest.mark.parametrize("compiled", [False, True])
def test_in_fp32_the_fast_step_is_the_reference_step(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = torch.device("cuda", 0)
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

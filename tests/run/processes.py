"""Runs of seconds as processes of their own, which may be killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import DIGITS, TINY
from utils.files import PROJECT

PATIENCE = 500.0  # seconds: a program imports PyTorch, perhaps on a busy machine
SHORT = ("num_epochs=3", "global.epoch_first=1", "global.epoch_second=2", "global.n=0")

# Its fifth step waits for the file `go` in the storage, so that the run is met while it trains.
PAUSED = """
import sys, time, pathlib
from training.mixmatch import MixMatch
steps, step = [0], MixMatch.step
def paused(*given):
    steps[0] += 1
    while steps[0] == 5 and not pathlib.Path({go!r}).exists():
        time.sleep(0.05)
    return step(*given)
MixMatch.step = paused
import ASD
sys.exit(ASD.main(sys.argv[1:]))
"""


_started: list[subprocess.Popen[str]] = []


def opened(command: Sequence[str], **pipes: Any) -> subprocess.Popen[str]:
    """Start a program in the project's folder; `conftest.py` ends it where its test does not."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    process: subprocess.Popen[str] = subprocess.Popen(command, cwd=PROJECT, text=True, **pipes)
    _started.append(process)
    return process


def end_all() -> None:
    """Kill what is still running."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def start(storage: Path, *more: str, paused: bool = False) -> subprocess.Popen[str]:
    """Start a run of seconds below `storage`, perhaps one that waits in its second epoch."""
    program = ["-c", PAUSED.format(go=str(storage / "go"))] if paused else ["ASD.py"]
    command = [sys.executable, *program, "--config", str(DIGITS), "--gpu", "cpu", *TINY]
    command += [*SHORT, f"storage_dir={storage}", *more]
    return opened(command)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit code, output and errors of a process once it has ended."""
    out, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, out, errors


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds while the process lives."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)

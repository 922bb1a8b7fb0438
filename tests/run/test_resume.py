"""Killed at any moment and resumed, a run ends with the same bits as one never stopped.

`ASD_KILLS` sets how many kills at random moments are tried (default 4).
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.jobs import is_finished, plan_job
from run.checkpoint import LATEST, load_checkpoint
from run.session import TIME_COLUMNS
from tests.conftest import DIGITS, RESNET, TINY, killed_before_step
from tests.run.processes import opened
from training.mixmatch import MixMatch

KILLS = int(os.environ.get("ASD_KILLS", "4"))
# A little longer than the other tests' run, so that most kills fall into it, not before it.
LONGER = ("semi.mixmatch.train_iteration=8", RESNET)


def arguments(storage: Path) -> list[str]:
    return ["--config", str(DIGITS), "--gpu", "cpu", *TINY, *LONGER, f"storage_dir={storage}"]


def start(storage: Path, before: str = "pass") -> subprocess.Popen[str]:
    """Start a run as a process of its own, perhaps with a fault built in before."""
    code = f"import os, sys, signal; {before}; import ASD; sys.exit(ASD.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments(storage)]
    return opened(command, stderr=subprocess.STDOUT)


def finish(storage: Path) -> str:
    """Resume until the end; return what was printed."""
    process = start(storage)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def log_without_times(storage: Path) -> list[dict[str, str]]:
    with (storage / "digits" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIME_COLUMNS} for row in rows]


def assert_same(ours: Any, theirs: Any, place: str = "") -> None:
    """Compare nested states bit for bit."""
    assert type(ours) is type(theirs), place
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), place
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs), place
        for key in ours:
            assert_same(ours[key], theirs[key], f"{place}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), place
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{place}/{i}")
    else:
        assert ours == theirs, place


def assert_same_end(storage: Path, reference: Path) -> None:
    ours, theirs = (
        load_checkpoint(folder / "digits" / "checkpoint" / LATEST)
        for folder in (storage, reference)
    )
    weights = ("model_state_dict", "optimizer_state_dict")
    for key in (*weights, "defense_state_dict", "history", "epoch", "best_acc", "best_epoch"):
        assert_same(ours[key], theirs[key], key)
    assert len(ours["history"]["losses"]) == 3  # of each stage; the suspects follow from these
    assert log_without_times(storage) == log_without_times(reference)
    assert (storage / "digits" / "result.json").exists()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that is never stopped, and the seconds that it took."""
    storage = tmp_path_factory.mktemp("reference")
    began = time.monotonic()
    finish(storage)
    assert len(log_without_times(storage)) == 9
    return storage, time.monotonic() - began


def test_killed_at_random_moments(reference: tuple[Path, float], tmp_path: Path) -> None:
    folder, whole = reference
    moments = random.Random(int(os.environ.get("ASD_KILL_SEED", "0")))
    seen: set[int] = set()
    for kill in range(KILLS):
        if (tmp_path / "digits" / "result.json").exists():  # the run is over: kill another one
            assert_same_end(tmp_path, folder)
            (tmp_path / "digits").rename(tmp_path / f"over{len(list(tmp_path.iterdir()))}")
        process = start(tmp_path)
        log = tmp_path / "digits" / "log.csv"
        while kill == 0 and not log.exists() and process.poll() is None:
            time.sleep(0.05)  # the first kill certainly falls into the training
        time.sleep(moments.uniform(0.3, 0.9) * whole if kill else 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / "digits" / "log.csv").exists():
            seen.add(len(log_without_times(tmp_path)))
    finish(tmp_path)
    assert_same_end(tmp_path, folder)
    assert seen, "no kill fell into the training"


@pytest.mark.parametrize(
    ("function", "call"),
    [("fsync", 8), ("fsync", 9), ("replace", 6), ("replace", 7), ("replace", 8), ("link", 2)],
)
def test_killed_while_a_checkpoint_is_written(
    reference: tuple[Path, float], tmp_path: Path, function: str, call: int
) -> None:
    # The call-th call of a function of the saving does not come back.
    fault = (
        f"calls = [0]; real = os.{function}\n"
        "def deadly(*a, **k):\n"
        "    calls[0] += 1\n"
        f"    if calls[0] == {call}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*a, **k)\n"
        f"os.{function} = deadly\n"
        "pass"
    )
    process = start(tmp_path, "exec(" + repr(fault) + ")")
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    finish(tmp_path)
    assert_same_end(tmp_path, reference[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [1, 20, 45, 71])
def test_stopped_inside_an_epoch(
    reference: tuple[Path, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    after: int,
) -> None:
    """A signal waits for the step under way; the epoch goes on where it was."""
    steps = [0]
    real = MixMatch.step

    def step_and_signal(*given: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == after:
            os.kill(os.getpid(), number)
        return real(*given)

    monkeypatch.setattr(MixMatch, "step", step_and_signal)
    assert ASD.main(arguments(tmp_path)) == 128 + number
    state = load_checkpoint(tmp_path / "digits" / "checkpoint" / LATEST)
    assert state["epoch"] * 8 + state["step"] == after
    assert ASD.main(arguments(tmp_path)) == 0
    assert_same_end(tmp_path, reference[0])


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        storage = tmp_path / name
        given = [*arguments(storage), "num_epochs=1", f"seed.seed={seed}"]
        assert ASD.main(given) == 0
        checkpoint = load_checkpoint(storage / "digits" / "checkpoint" / LATEST)
        states.append(checkpoint["model_state_dict"]["linear.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_what_a_plain_run_does_not_read_may_change_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [*arguments(tmp_path), "defense=none"]
    assert ASD.main([*plain, "num_epochs=1"]) == 0
    for change in ("semi.mixmatch.alpha=0.5", "global.n=3", "witness.reference.epochs=3"):
        assert ASD.main([*plain, "num_epochs=1", change]) == 0
    capsys.readouterr()
    for change in ("optimizer.Adam.lr=0.5", "defense=asd", "global.seed_num=3"):
        assert ASD.main([*plain, "num_epochs=1", change]) == 2
        assert change.split("=")[0] in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_gone_on_from_in_a_folder_of_its_own(
    reference: tuple[Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the folder is new or holds a run already: that one is moved aside, none is lost."""
    real, steps = MixMatch.step, [0]

    def stop(*given: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(MixMatch, "step", stop)
        assert ASD.main(arguments(tmp_path / "first")) == 130
    path = tmp_path / "first" / "digits" / "checkpoint" / LATEST
    before = path.read_bytes()
    for _ in range(2):
        assert ASD.main([*arguments(tmp_path), "--resume", str(path)]) == 0
        assert_same_end(tmp_path, reference[0])
        assert (tmp_path / "digits" / "manifest.json").exists()
    assert path.read_bytes() == before
    assert (tmp_path / "digits.1" / "result.json").exists()


def test_an_own_checkpoint_is_known_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word for word in arguments(tmp_path) if not word.startswith("storage_dir")]
    given += ["storage_dir=./runs/../runs", "num_epochs=2", "global.epoch_first=1"]
    given += ["global.epoch_second=2"]
    real, steps = MixMatch.step, [0]

    def stop(*step: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*step)

    with monkeypatch.context() as patched:
        patched.setattr(MixMatch, "step", stop)
        assert ASD.main(given) == 130
    path = tmp_path / "runs" / "digits" / "checkpoint" / LATEST
    assert ASD.main([*given, "--resume", str(path)]) == 0
    assert [place.name for place in (tmp_path / "runs").iterdir() if place.is_dir()] == ["digits"]


def test_a_run_that_has_drawn_its_seed_goes_on_with_it(tmp_path: Path) -> None:
    """The drawn seed is the checkpoint's; the same command goes on, and its end is the same."""
    drawn = [*arguments(tmp_path / "drawn"), "seed.seed=null"]
    with killed_before_step(12):  # of 8 in an epoch
        ASD.main(drawn)
    path = tmp_path / "drawn" / "digits" / "checkpoint" / LATEST
    state = load_checkpoint(path)
    assert state["config"]["seed"].pop("seed") is None
    torch.save(state, path)  # as earlier versions left it
    assert ASD.main(drawn) == 0
    end = load_checkpoint(path)
    assert (end["seed"], end["config"]["seed"]["seed"]) == (state["seed"], None)
    whole = [*arguments(tmp_path / "whole"), f"seed.seed={state['seed']}"]
    assert ASD.main(whole) == 0
    assert_same_end(tmp_path / "drawn", tmp_path / "whole")
    assert is_finished(plan_job(DIGITS, None, drawn[4:]))

"""Methods of several stages, killed or stopped in each of them, end with the same bits."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ASD
from defense import DEFENSES
from run.checkpoint import LATEST, load_checkpoint
from run.session import TIME_COLUMNS
from tests.defense.staged import METHODS, arguments_for
from tests.run.test_resume import assert_same
from utils.files import PROJECT

KEYS = ("model_state_dict", "optimizer_state_dict", "defense_state_dict", "epoch", "history")


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIME_COLUMNS} for row in rows]


def assert_same_end(ours: Path, theirs: Path) -> None:
    states = [load_checkpoint(folder / "checkpoint" / LATEST) for folder in (ours, theirs)]
    for key in KEYS:
        assert_same(states[0][key], states[1][key], key)
    assert log_of(ours) == log_of(theirs)
    assert (ours / "result.json").exists()


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each method that is never stopped."""
    storage = tmp_path_factory.mktemp("reference")
    for method in METHODS:
        assert ASD.main(arguments_for(method, storage)) == 0
    return {method: storage / method for method in METHODS}


def test_each_stage_is_in_the_log(references: dict[str, Path]) -> None:
    stages = {method: [row["stage"] for row in log_of(path)] for method, path in references.items()}
    names = {
        "abl": ("isolation", "fine-tuning", "unlearning"),
        "dbd": ("contrastive", "warm-up", "mixmatch"),
    }
    for method, expected in names.items():
        assert stages[method] == [name for name in expected for _ in range(2)]
    assert log_of(references["dbd"])[0]["loss_u"] == ""  # it has none yet
    assert float(log_of(references["dbd"])[5]["loss_u"]) > 0
    assert log_of(references["abl"])[5]["clean_pool"] == "285"


def stopping(method: str, epoch: int, number: signal.Signals) -> str:
    """Return code that sends this process a signal after the first step of `epoch`."""
    return (
        "import os, sys\n"
        "from defense import DEFENSES\n"
        f"kind = DEFENSES.get({method!r})\n"
        "real = kind.steps\n"
        "def steps(self, epoch, clean, first):\n"
        "    for losses in real(self, epoch, clean, first):\n"
        "        yield losses\n"
        f"        if epoch == {epoch}: os.kill(os.getpid(), {int(number)})\n"
        "kind.steps = steps\n"
        "import ASD\n"
        "sys.exit(ASD.main(sys.argv[1:]))\n"
    )


@pytest.mark.parametrize("epoch", range(6))
@pytest.mark.parametrize("method", METHODS)
def test_killed_in_each_epoch(
    method: str, epoch: int, references: dict[str, Path], tmp_path: Path
) -> None:
    """The second epoch of a stage goes on with its optimiser, the first starts one.

    Killed in the very first epoch, a run has nothing to go on from, and starts anew.
    """
    given = arguments_for(method, tmp_path)
    command = [sys.executable, "-c", stopping(method, epoch, signal.SIGKILL), *given]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    latest = tmp_path / method / "checkpoint" / LATEST
    assert latest.exists() == (epoch > 0)
    if epoch:
        assert load_checkpoint(latest)["epoch"] == epoch
    assert ASD.main(given) == 0
    assert_same_end(tmp_path / method, references[method])


@pytest.mark.parametrize("method", METHODS)
def test_killed_before_the_result_is_written(
    method: str, references: dict[str, Path], tmp_path: Path
) -> None:
    """The last epoch is kept, only the conclusion is drawn again."""
    kill = (
        "import os, sys\n"
        "import ASD, report.finish\n"
        f"report.finish.leave_report = lambda *_: os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "sys.exit(ASD.main(sys.argv[1:]))\n"
    )
    given = arguments_for(method, tmp_path, "report=true")
    command = [sys.executable, "-c", kill, *given]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert not (tmp_path / method / "result.json").exists()
    assert load_checkpoint(tmp_path / method / "checkpoint" / LATEST)["epoch"] == 6
    assert ASD.main(given) == 0
    assert_same_end(tmp_path / method, references[method])


@pytest.mark.parametrize("epoch", [1, 3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_stopped_inside_an_epoch(
    method: str,
    epoch: int,
    references: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind: Any = DEFENSES.get(method)
    real = kind.steps

    def steps(self: Any, at: int, clean: Any, first: int) -> Any:
        for number, losses in enumerate(real(self, at, clean, first)):
            if (at, number) == (epoch, 0):
                os.kill(os.getpid(), signal.SIGINT)
            yield losses

    monkeypatch.setattr(kind, "steps", steps)
    given = arguments_for(method, tmp_path)
    assert ASD.main(given) == 128 + signal.SIGINT
    state = load_checkpoint(tmp_path / method / "checkpoint" / LATEST)
    assert (state["epoch"], state["step"]) == (epoch, 1)
    monkeypatch.setattr(kind, "steps", real)
    assert ASD.main(given) == 0
    assert_same_end(tmp_path / method, references[method])


SCHEDULES = (
    "lr_scheduler={StepLR: {step_size: 1, gamma: 0.5}}",
    "lr_scheduler.CosineAnnealingLR=null",
    "learning_rate={warmup: 2, hold: 0.5}",
)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", METHODS)
def test_stopped_with_a_schedule_that_belongs_to_one_stage(
    method: str, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pieces = (arguments_for(method, tmp_path / name, schedule) for name in ("a", "b"))
    assert ASD.main(whole) == 0
    kind: Any = DEFENSES.get(method)
    real, taken = kind.steps, [0]

    def steps(self: Any, at: int, clean: Any, first: int) -> Any:
        for losses in real(self, at, clean, first):
            taken[0] += 1
            if taken[0] in (4, 14, 18):
                os.kill(os.getpid(), signal.SIGINT)
            yield losses

    with monkeypatch.context() as patched:
        patched.setattr(kind, "steps", steps)
        assert [ASD.main(pieces) for _ in range(3)] == [130] * 3
    assert ASD.main(pieces) == 0
    assert_same_end(tmp_path / "b" / method, tmp_path / "a" / method)


def test_a_review_that_grows_after_isolation_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is isolated is settled; before, it is at least what a person calls poisoned."""
    review = tmp_path / "review.csv"
    rows = "".join(f"{index},poisoned\n" for index in range(100, 150))
    review.write_text(f"file,verdict\n{rows}")
    given = arguments_for("abl", tmp_path)
    stop = [sys.executable, "-c", stopping("abl", 3, signal.SIGKILL), *given]
    done = subprocess.run(stop, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ASD.main([*given, f"review={review}"]) == 0
    assert log_of(tmp_path / "abl")[5]["clean_pool"] == "285"
    inside = tmp_path / "abl" / "review.csv"
    shutil.copy(review, inside)
    assert ASD.main([*given, f"review={inside}", "--resume", "False"]) == 2
    assert "copy it to another place" in capsys.readouterr().err
    assert inside.is_file()  # nothing was moved
    assert ASD.main([*given, f"review={review}", "--resume", "False"]) == 0
    assert log_of(tmp_path / "abl")[5]["clean_pool"] == "250"

"""A file that a configuration names and that holds something else makes another run."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ASD
from command.jobs import is_finished, plan_job
from run.checkpoint import LATEST, load_checkpoint
from tests.conftest import DIGITS, TINY, killed_before_step
from utils.files import PROJECT

KEY = "witness.heard.probabilities.file"
FEW = (
    "witness.reference.network={fastnet: {width: 4}}",
    "witness.reference.epochs=3",
    "witness.reference.steps=4",
)
SHORT = (*TINY, "num_epochs=1", "defense=none")


def arguments(storage: Path, *more: str) -> list[str]:
    return ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *more]


def write_probabilities(path: Path, seed: int) -> None:
    table = np.random.default_rng(seed).random((300, 10))
    np.save(path, table / table.sum(axis=1, keepdims=True))


def test_other_probabilities_are_refused_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "p.npy"
    write_probabilities(table, 0)
    heard = f"witness.heard={{probabilities: {{file: {table}}}}}"
    given = arguments(tmp_path / "runs", *FEW, heard)
    with killed_before_step(5):
        ASD.main(given)
    write_probabilities(table, 1)
    capsys.readouterr()
    assert ASD.main(given) == 2
    error = capsys.readouterr().err
    assert f"started with other content of {KEY}; restore that" in error
    assert error.count("\n") == 1
    path = tmp_path / "runs" / "digits" / "checkpoint" / LATEST
    state = load_checkpoint(path)
    assert state["fingerprints"].pop(f"content of {KEY}") != sha256(table)
    torch.save(state, path)  # as earlier versions left it
    assert ASD.main([*given, "--check"]) == 0
    write_probabilities(table, 0)
    assert ASD.main(given) == 0
    known = load_checkpoint(path)["fingerprints"]
    assert known[f"content of {KEY}"] == sha256(table)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_review_may_grow_on_the_way_and_is_then_looked_at_again(tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    review.write_text("file,verdict\n1,clean\n")
    given = [*SHORT, f"storage_dir={tmp_path}", f"review={review}"]
    run = ["--config", str(DIGITS), "--gpu", "cpu", *given]
    assert ASD.main(run) == 0
    assert is_finished(plan_job(DIGITS, None, given))
    review.write_text("file,verdict\n1,clean\n2,clean\n")
    assert not is_finished(plan_job(DIGITS, None, given))
    assert ASD.main(run) == 0


def test_a_finished_run_of_another_file_is_not_finished(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger.png"
    shutil.copy(PROJECT / "data" / "trigger" / "badnets_16.png", trigger)
    given = [*SHORT, f"storage_dir={tmp_path}", f"backdoor.badnets.trigger_path={trigger}"]
    assert ASD.main(["--config", str(DIGITS), "--gpu", "cpu", *given]) == 0
    assert is_finished(plan_job(DIGITS, None, given))
    trigger.write_bytes(trigger.read_bytes() + b"\0")
    assert not is_finished(plan_job(DIGITS, None, given))

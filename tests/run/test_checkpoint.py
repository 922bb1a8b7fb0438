"""Checkpoints: whole or not at all, never executed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from config.load import load_config
from run.checkpoint import (
    BEST,
    LATEST,
    PREVIOUS,
    check_finite,
    load_checkpoint,
    read_latest,
    save_checkpoint,
)
from run.folder import RunFolder
from run.restore import restore_network
from run.resume import find_start, what_differs
from tests.conftest import DIGITS
from tests.run.checkpoints import MALICIOUS_FORMS, save_malicious, whole_state
from utils.errors import InputError, TrainingError
from utils.files import write_atomically
from utils.torch_file import DamagedCheckpoint


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create()
    for epoch in (1, 2):
        save_checkpoint(run.checkpoints, whole_state(epoch), best=epoch == 1)
    return run


def test_the_one_before_and_the_best_are_kept(folder: RunFolder) -> None:
    epochs = [load_checkpoint(folder.checkpoints / name)["epoch"] for name in (LATEST, PREVIOUS)]
    assert epochs == [2, 1]
    assert load_checkpoint(folder.checkpoints / BEST)["epoch"] == 1
    assert sorted(os.listdir(folder.checkpoints)) == sorted([LATEST, PREVIOUS, BEST])


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "missing", "first byte", "directory", "folder"]
)
def test_a_damaged_latest_falls_back_to_the_one_before(
    folder: RunFolder, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = folder.checkpoints / LATEST
    content = latest.read_bytes()
    if damage == "cut":
        latest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        with zipfile.ZipFile(latest) as archive:
            inside = max(archive.infolist(), key=lambda part: part.file_size)
        place = inside.header_offset + 100
        flipped = bytes([content[place] ^ 255])
        latest.write_bytes(content[:place] + flipped + content[place + 1 :])
    elif damage == "first byte":
        latest.write_bytes(b"T" + content[1:])
    elif damage == "directory":  # of the archive, at its end
        place = content.rfind(b"PK\x01\x02") + 46
        latest.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    elif damage == "folder":
        latest.unlink()
        latest.mkdir()
    elif damage == "empty":
        latest.write_bytes(b"")
    else:
        latest.unlink()
    if damage == "missing":
        with pytest.raises(InputError):
            load_checkpoint(latest)
    found = read_latest(folder.checkpoints)
    assert found is not None
    assert found[1]["epoch"] == 1
    assert PREVIOUS in capsys.readouterr().out


def test_two_damaged_ones_are_an_error(folder: RunFolder) -> None:
    for name in (LATEST, PREVIOUS):
        (folder.checkpoints / name).write_bytes(b"nothing")
    with pytest.raises(DamagedCheckpoint):
        read_latest(folder.checkpoints)


def test_a_damaged_one_without_another_says_what_to_do(folder: RunFolder) -> None:
    (folder.checkpoints / PREVIOUS).unlink()
    (folder.checkpoints / LATEST).write_bytes(b"nothing")
    with pytest.raises(DamagedCheckpoint, match=r"none before it.*--resume False") as caught:
        read_latest(folder.checkpoints)
    assert "stays" not in str(caught.value)


@pytest.mark.parametrize("form", MALICIOUS_FORMS)
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    folder: RunFolder, tmp_path: Path, form: str
) -> None:
    mark, latest = tmp_path / "mark", folder.checkpoints / LATEST
    save_malicious(latest, mark, form)
    with pytest.raises(InputError, match="refused") as caught:
        read_latest(folder.checkpoints)
    assert not isinstance(caught.value, DamagedCheckpoint)
    assert not mark.exists()


def test_a_full_disk_leaves_what_was_there(folder: RunFolder) -> None:
    def fill(file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    latest = folder.checkpoints / LATEST
    before = latest.read_bytes()
    with pytest.raises(TrainingError, match="No space left"):
        write_atomically(latest, fill)
    assert latest.read_bytes() == before
    assert not [name for name in os.listdir(folder.checkpoints) if "partial" in name]


def test_weights_of_a_ddp_run_and_of_another_network(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    weights = {f"module.{key}": value + 1 for key, value in network.state_dict().items()}
    restore_network(network, {"model_state_dict": weights}, tmp_path)
    torch.testing.assert_close(network.weight.data, weights["module.weight"])
    with pytest.raises(InputError, match="do not fit the section network"):
        restore_network(nn.Linear(3, 2), {"model_state_dict": weights}, tmp_path)


def test_a_loss_that_is_not_finite() -> None:
    check_finite(torch.tensor([1.0, 2.0]), 3, 50)
    with pytest.raises(TrainingError, match=r"epoch 3, by step 50.*not finite"):
        check_finite(torch.tensor([1.0, float("nan")]), 3, 50)


@pytest.mark.parametrize(
    ("resume", "epochs", "evaluates", "epoch"),
    [
        (None, 9, False, 2),
        ("", 9, False, 2),
        (LATEST, 9, False, 2),
        (LATEST, 2, True, 2),
        (BEST, 9, True, 1),
        (PREVIOUS, 9, True, 1),
    ],
)
def test_what_resume_means(
    folder: RunFolder, resume: str | None, epochs: int, evaluates: bool, epoch: int
) -> None:
    start = find_start(folder, resume, epochs)
    assert start.state is not None
    assert (start.only_evaluate, start.state["epoch"]) == (evaluates, epoch)


def test_from_scratch(folder: RunFolder, tmp_path: Path) -> None:
    assert find_start(folder, "False", 9).state is None
    assert find_start(RunFolder(tmp_path / "new"), None, 9).state is None
    for name in (LATEST, "nothing.pt"):
        with pytest.raises(InputError, match="there is no checkpoint"):
            find_start(RunFolder(tmp_path / "new"), name, 9)


def test_earlier_runs_are_moved_aside_not_deleted(folder: RunFolder) -> None:
    assert folder.move_aside() == folder.path.with_name("run.1")
    folder.create()
    assert folder.move_aside() == folder.path.with_name("run.2")
    assert (folder.path.with_name("run.1") / "checkpoint" / LATEST).exists()


def test_a_checkpoint_older_than_a_key_goes_on_with_its_default(
    tiny_arguments: list[str], tmp_path: Path
) -> None:
    from ASD import main

    assert main(tiny_arguments) == 0
    path = tmp_path / "digits" / "checkpoint" / LATEST
    state = load_checkpoint(path)
    assert state["config"]["global"].pop("class_floor") == 0
    torch.save(state, path)
    assert main(tiny_arguments) == 0
    assert main([*tiny_arguments, "global.class_floor=0.5"]) == 2


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for name in (LATEST, "best_model.pt", ".latest_model.pt.1-0.partial"):
        (folder.checkpoints / name).touch()
    with pytest.raises(InputError, match=r"no checkpoint latest_model .*did you mean 'latest_m"):
        find_start(folder, "latest_model", None)
    with pytest.raises(InputError, match=r"\(known: best_model.pt, latest_model.pt\)"):
        find_start(folder, "7", None)


@pytest.mark.parametrize(
    ("null", "given"),
    [
        (("seed", "seed"), ["seed.seed=null"]),
        (("abl", "ascent_bound"), ["defense=abl", "abl.ascent_bound=null"]),
    ],
)
def test_a_null_that_earlier_versions_did_not_write_is_no_default(
    null: tuple[str, str], given: list[str]
) -> None:
    section, key = null
    config = load_config(DIGITS, given).config
    kept = config.as_yaml()
    assert kept[section].pop(key) is None
    assert what_differs(kept, config) == []
    left_out = load_config(DIGITS, given[:-1]).config
    assert what_differs(kept, left_out) == [f"{section}.{key}"]
    assert what_differs(config.as_yaml(), left_out) == [f"{section}.{key}"]

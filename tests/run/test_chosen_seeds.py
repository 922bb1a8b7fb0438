"""Runs without verified samples: the witnesses choose the start, it is said, and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from config.load import load_config
from data.build import assemble, load_data
from run.checkpoint import LATEST, load_checkpoint
from tests.conftest import DIGITS, TINY, killed_before_step
from tests.data.own_data_cases import OWN, draw_image, folder, make_folder, refused  # noqa: F401
from tests.run.test_distributed import run_tiny
from utils.errors import InputError
from utils.streams import Streams
from witness.hearing import Hearing
from witness.reference import Trainer

CHOSEN = (
    "global.seed_choice=witnesses",
    "witness.reference.network={fastnet: {width: 4}}",
    "witness.reference.epochs=3",
    "witness.reference.steps=4",
)
LINE = "no verified samples: the start was chosen by the witnesses"


def arguments(storage: Path, *more: str) -> list[str]:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, *CHOSEN, f"storage_dir={storage}"]
    return [*given, *more]


def kept(storage: Path) -> dict[str, Any]:
    return load_checkpoint(storage / "digits" / "checkpoint" / LATEST)


def read(storage: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((storage / "digits" / name).read_text()))


def same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    ours, theirs = first["model_state_dict"], second["model_state_dict"]
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_nothing_is_verified_before_the_witnesses_are_asked() -> None:
    config = load_config(DIGITS, [*TINY, *CHOSEN]).config
    found = assemble(config, load_data(config)[0], Streams(100))
    assert len(found.seeds) == 0 and not found.seeds_checked
    assert "seeds" not in found.fingerprints(truth_known=True)


def test_a_run_says_who_chose_its_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ASD.main(arguments(tmp_path, "report=true")) == 0
    out = capsys.readouterr().out
    assert f"{LINE}, 5 samples a class" in out
    result, manifest = read(tmp_path, "result.json"), read(tmp_path, "manifest.json")
    for said in (result, manifest):
        assert (said["seeds_checked"], said["seed_choice"]) == (False, "witnesses")
    assert result["verdict"] != "no_sign"
    seeds = torch.tensor(manifest["seed_indices"])
    assert torch.equal(seeds, kept(tmp_path)["seeds"])
    config = load_config(DIGITS, [*TINY, *CHOSEN]).config
    labels = assemble(config, load_data(config)[0], Streams(100)).training.labels
    assert torch.bincount(labels[seeds]).tolist() == [5] * 10
    verdict = json.loads((tmp_path / "digits" / "report" / "verdict.json").read_text())
    assert any(LINE in reason for reason in verdict["reasons"])
    page = (tmp_path / "digits" / "report" / "report.html").read_text()
    assert LINE in page and "the witnesses chose 50" in page
    card = (tmp_path / "digits" / "model_card.md").read_text()
    assert "the start was chosen by the witnesses" in card


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is never stopped."""
    storage = tmp_path_factory.mktemp("whole")
    assert ASD.main(arguments(storage)) == 0
    return storage


@pytest.mark.parametrize("after", [5, 11, 25])
def test_a_stopped_run_keeps_its_start_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, whole: Path
) -> None:
    with killed_before_step(after):
        ASD.main(arguments(tmp_path))
    # Where it goes on, the witnesses might say something else; they are not even asked.
    monkeypatch.setattr(Hearing, "most_trusted", never)
    assert ASD.main(arguments(tmp_path)) == 0
    first, second = kept(whole), kept(tmp_path)
    assert torch.equal(first["seeds"], second["seeds"])
    assert same(first, second)


def never(*_: object) -> None:
    raise AssertionError("the witnesses were asked")


def test_a_checkpoint_with_other_seeds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ASD.main(arguments(tmp_path, "num_epochs=1", "global.epoch_first=1")) == 0
    path = tmp_path / "digits" / "checkpoint" / LATEST
    state = torch.load(path, weights_only=True)
    state["seeds"] = state["seeds"] + 1
    torch.save(state, path)
    capsys.readouterr()
    assert ASD.main(arguments(tmp_path, "num_epochs=1", "global.epoch_first=1")) == 2
    assert "started with other seeds" in capsys.readouterr().err


def test_a_look_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "train", never)
    assert ASD.main(arguments(tmp_path, "--check")) == 0
    assert "none; the witnesses will choose 50" in capsys.readouterr().out


@pytest.mark.parametrize("defense", ["none", "abl", "dbd"])
def test_every_defence_can_be_judged_by_chosen_samples(tmp_path: Path, defense: str) -> None:
    short = {
        "none": ["num_epochs=1"],
        "abl": ["abl={isolation_epochs: 1, fine_tuning_epochs: 1, unlearning_epochs: 1}"],
        "dbd": ["dbd={contrastive: {epochs: 1}, warm_up: {epochs: 1}, mixmatch_epochs: 1}"],
    }
    given = [f"defense={defense}", *short[defense]]
    left = [part for part in TINY if not part.startswith("num_epochs")]
    command = ["--config", str(DIGITS), "--gpu", "cpu", *left, *CHOSEN, f"storage_dir={tmp_path}"]
    assert ASD.main([*command, *given]) == 0
    assert read(tmp_path, "result.json")["verdict"] in ("cannot_tell", "poisoned")


def test_two_processes_choose_the_same_start(tmp_path: Path) -> None:
    for name, devices in (("one", "cpu"), ("two", "cpu,cpu")):
        done = run_tiny(tmp_path / name, devices, *CHOSEN)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"{LINE}, 5 samples") == 1
    first, second = (read(tmp_path / name, "manifest.json") for name in ("one", "two"))
    assert first["seed_indices"] == second["seed_indices"]


@pytest.mark.parametrize("key", ["global.seed_dir=/tmp", "global.seed_indices=list.txt"])
def test_chosen_and_verified_contradict(key: str) -> None:
    with pytest.raises(InputError, match=r"global\.seed_choice: witnesses") as caught:
        load_config(DIGITS, ["global.seed_choice=witnesses", "backdoor=null", key])
    assert "\n" not in str(caught.value)


def test_a_folder_of_verified_images_is_better(folder: Path) -> None:
    draw_image(folder / "seeds" / "big cats" / "1.png", 5)
    assert "seeds holds some" in refused(folder, "global.seed_choice=witnesses")


def test_own_data_without_verified_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "d", per_class=6)
    given = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={root}", *CHOSEN, "report=false"]
    given += ["network={resnet18_cifar: {width: 4}}", "semi.mixmatch.train_iteration=2"]
    given += ["semi.loader.batch_size=8", "num_epochs=3"]
    assert ASD.main([*given, f"storage_dir={tmp_path / 's'}"]) == 0
    out = capsys.readouterr().out
    assert f"{LINE}, 3 samples a class" in out
    assert "NOBODY HAS CHECKED" not in out
    result = json.loads((tmp_path / "s" / "own_data" / "result.json").read_text())
    assert result["seed_choice"] == "witnesses"


def test_a_class_that_is_too_small_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ASD.main(arguments(tmp_path, "global.seed_num=400")) == 2
    error = capsys.readouterr().err
    assert "global.seed_num: 400 asked for, but class" in error and error.count("\n") == 1

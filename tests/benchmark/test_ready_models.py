"""The ready models are whole, and are tested against what their runs said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ASD
from benchmark import ready_models
from run.product import load_model
from tests.conftest import DIGITS, TINY

FILES = ("model.json", "model.safetensors", "result.json")
MOST_BYTES = 8 * 2**20
ON_TINY = (*TINY, "num_epochs=2", "global.epoch_first=1", "global.epoch_second=1", "global.n=0")
ON_TINY += ("global.epoch_third=2",)
NAMES = ["cifar10_badnets_asd", "cifar10_badnets_none"]  # that the pages promise
SHIPPED = sorted(path.parent for path in ready_models.FOLDER.glob("*/model.json"))


def test_two_models_are_shipped() -> None:
    assert [folder.name for folder in SHIPPED] == NAMES


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_what_is_shipped_can_be_loaded(folder: Path) -> None:
    assert sum((folder / name).stat().st_size for name in FILES) <= MOST_BYTES
    network, description = load_model(folder)
    told = json.loads((folder / "result.json").read_text())
    assert description.acc == told["acc"]
    assert network.linear.weight.shape[0] == len(description.classes) == 10
    card = (ready_models.FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`{folder.name}`" in card
    for share in (told["acc"], told["asr"]):
        assert f"{100 * share:.1f} %" in card


def test_the_shipped_models_are_as_good_as_they_say(cifar10_folder: str) -> None:
    assert ready_models.main([f"dataset_dir={cifar10_folder}"]) == 0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of a tiny set, one of a run without a defence."""
    root = tmp_path_factory.mktemp("models")
    for defense in ("asd", "none"):
        given = ["--config", str(DIGITS), "--gpu", "cpu", "--name", defense, *ON_TINY]
        assert ASD.main([*given, f"storage_dir={root / 'runs'}", f"defense={defense}"]) == 0
        (root / "ready" / defense).mkdir(parents=True)
        for name in FILES:
            shutil.copy(root / "runs" / defense / name, root / "ready" / defense / name)
    return root / "ready"


def outcome(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, str, str]:
    code = ready_models.main([*ON_TINY, *overrides])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_both_models_are_tested_beside_what_their_runs_said(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_models, "FOLDER", models)
    monkeypatch.setattr(ready_models, "CONFIG", DIGITS)
    code, said, _ = outcome(capsys)
    rows = [line for line in said.splitlines() if line.startswith(("| asd", "| none"))]
    assert code == 0 and len(rows) == 2
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        told = json.loads((models / cells[0] / "result.json").read_text())
        assert cells[1] == told["defense"]
        assert cells[2] == cells[4] == f"{100 * told['acc']:.2f} %"
        assert cells[3] == cells[5] == f"{100 * told['asr']:.2f} %"
        assert cells[6] == "yes"


def test_a_model_that_differs_and_other_images_are_said(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(models, tmp_path / "ready")
    monkeypatch.setattr(ready_models, "FOLDER", tmp_path / "ready")
    monkeypatch.setattr(ready_models, "CONFIG", DIGITS)
    path = tmp_path / "ready" / "none" / "result.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "acc": told["acc"] - 0.01}))
    code, said, _ = outcome(capsys)
    assert code == 1 and said.count("NO") == 1
    code, _, error = outcome(capsys, "data.train_samples=200")
    assert code == 2 and "its run had other data" in error and error.count("\n") == 1

"""Weights that are no numbers say nothing: one line, whatever was asked for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import ASD
from run.checkpoint import LATEST
from run.product import DESCRIPTION, WEIGHTS, load_model
from tests.run.product_cases import finished
from utils.errors import InputError

__all__ = ["finished"]


@pytest.fixture
def copy(finished: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A finished run of this test alone, and the command line that made it."""
    shutil.copytree(finished[0], tmp_path / "digits")
    return tmp_path / "digits", [*finished[1], f"storage_dir={tmp_path}"]


def spoil_checkpoint(folder: Path, value: float) -> None:
    path = folder / "checkpoint" / LATEST
    state = torch.load(path, weights_only=True)
    state["model_state_dict"]["linear.weight"].fill_(value)
    torch.save(state, path)


def spoil_model(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights of the model; its description agrees with them."""
    weights = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    change(weights)
    body = safetensors.torch.save(weights)
    (folder / WEIGHTS).write_bytes(body)
    about = json.loads((folder / DESCRIPTION).read_text())
    about["weights_sha256"] = hashlib.sha256(body).hexdigest()
    (folder / DESCRIPTION).write_text(json.dumps(about))


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = ASD.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("asked", [[], ["--report"], ["--check"]])
def test_a_checkpoint_is_refused(
    copy: tuple[Path, list[str]], value: float, asked: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, arguments = copy
    spoil_checkpoint(folder, value)
    code, _, error = outcome(capsys, *arguments, *asked)
    assert code == 2
    assert error.count("\n") == 1
    assert "linear.weight' are not finite" in error


def test_answers_that_overflow_are_no_report(
    copy: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = copy
    spoil_checkpoint(folder, 3e38)  # a number, but its products are none
    code, _, error = outcome(capsys, *arguments, "--report")
    assert code == 2
    assert error.count("\n") == 1
    assert "answers are not finite" in error


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_no_label_is_predicted(
    copy: tuple[Path, list[str]], tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = copy
    spoil_model(folder, lambda weights: weights["linear.weight"].fill_(value))
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(tmp_path / "a.png")
    code, out, error = outcome(capsys, *arguments, "--json", "--predict", str(tmp_path / "a.png"))
    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    assert "not finite" in error


def test_a_description_is_no_reason_to_take_memory(copy: tuple[Path, list[str]]) -> None:
    """Some bytes of JSON ask for a network of 11 GB, which is not built."""
    folder, _ = copy
    about = json.loads((folder / DESCRIPTION).read_text())
    about["network"] = {"resnet18_cifar": {"width": 1024}}
    (folder / DESCRIPTION).write_text(json.dumps(about))
    with pytest.raises(InputError, match="does not fit"):
        load_model(folder)
    (folder / DESCRIPTION).write_text(json.dumps(about | {"acc": float("nan")}))
    with pytest.raises(InputError, match="NaN is no number"):
        load_model(folder)


def test_a_report_that_cannot_be_written(
    copy: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for, it is an error; after a training, the rest of the run is still written."""
    folder, arguments = copy
    shutil.rmtree(folder / "report", ignore_errors=True)
    (folder / "report").write_text("somebody's")
    code, _, error = outcome(capsys, *arguments, "--report")
    assert code == 2
    assert error.count("\n") == 1
    assert f"{folder / 'report'} cannot be written" in error
    (folder / "result.json").unlink()
    code, out, _ = outcome(capsys, *arguments, "report=true")
    assert code == 0
    assert f"{folder / 'report'} cannot be written" in out
    assert (folder / "result.json").exists()
    assert (folder / "report").read_text() == "somebody's"


@pytest.mark.parametrize("verdict", [5, None, "guilty"])
def test_a_damaged_result_is_written_anew(
    copy: tuple[Path, list[str]], verdict: object, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = copy
    path = folder / "result.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"verdict": verdict}))
    sibling = folder.with_name("sibling")
    sibling.mkdir()
    (sibling / "result.json").write_text('{"fingerprints": []}')
    code, out, _ = outcome(capsys, *arguments)
    assert code == 0
    assert f"not compared: {sibling / 'result.json'}" in out
    assert json.loads(path.read_text())["verdict"] == told["verdict"]

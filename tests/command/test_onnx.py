"""`--export-onnx`: one file that gives what `--predict` gives, or a line that says why not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ASD
from command import onnx_file
from command.onnx_file import check_target, write_onnx
from data.dataset.decode import read_image
from data.transform.settings import TransformSection
from model import NETWORKS
from run.product import Description, FrameSection, build, load_model, save_model
from tests.conftest import DIGITS, colourful_images
from utils.choice import Choice
from utils.errors import InputError, TrainingError

CLASSES = ["a", "ü", "c"]


def described(name: str, **settings: object) -> Description:
    choice = Choice(name, NETWORKS.get(name).Settings.model_validate(settings))
    return Description.model_construct(
        format=1,
        network=choice,
        classes=CLASSES,
        input_size=[16, 16],
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.25, 0.3],
        frame=FrameSection(size=16),
        transform=TransformSection(),
        verdict={"verdict": "no_sign"},
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a model, as a finished run of `digits` leaves it."""
    storage = tmp_path_factory.mktemp("storage")
    (storage / "digits").mkdir()
    description = described("resnet18_cifar", width=4)
    torch.manual_seed(0)
    network = build(description)
    save_model(storage / "digits", network, description)
    return storage


def arguments(storage: Path, file: Path | str) -> list[str]:
    start = ["--config", str(DIGITS), f"storage_dir={storage}"]
    return [*start, "--export-onnx", str(file)]


def assert_told(about: dict[str, str], told: dict[str, Any]) -> None:
    """The file says of verdict and pictures what `model.json` says."""
    assert about["verdict_on_training_data"] == "no_sign"
    preparation = json.loads(about["preparation"])
    assert preparation.keys() == {"frame", "transform"}
    assert preparation["frame"].items() >= told["frame"].items()
    assert preparation["transform"].items() >= told["transform"].items()


def test_the_file_gives_what_predict_gives(
    storage: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    assert ASD.main(arguments(storage, file)) == 0
    out = capfd.readouterr()
    assert "checked with onnxruntime" in out.out and out.err == ""
    assert len(out.out.splitlines()) == 2

    for number, image in enumerate(colourful_images(5, 16)):
        Image.fromarray(image.numpy()).save(tmp_path / f"{number}.png")
    files = sorted(str(path) for path in tmp_path.glob("*.png"))
    start = ["--config", str(DIGITS), "--gpu", "cpu", f"storage_dir={storage}"]
    assert ASD.main([*start, "--json", "--predict", *files]) == 0
    told = json.loads(capfd.readouterr().out)

    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == CLASSES
    assert_told(about, json.loads((storage / "digits" / "model.json").read_text()))
    frame = load_model(storage / "digits")[1].frame.frame()
    pixels = np.stack([read_image(Path(path), frame) for path in files])
    images = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    for part in (images[:1], images):  # any number at once
        found = session.run(["probabilities"], {"images": part})[0]
        assert [CLASSES[label] for label in found.argmax(1)] == [
            row["label"] for row in told[: len(part)]
        ]
        wanted = [row["probability"] for row in told[: len(part)]]
        assert found.max(axis=1).tolist() == pytest.approx(wanted, abs=1e-5)


def test_another_network_is_written_and_checked(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    description = described("fastnet")
    lines = write_onnx(build(description).eval(), description, tmp_path / "model.onnx")
    assert "checked with onnxruntime" in lines[1]


def test_a_file_that_gives_something_else_is_not_written(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    network, description = load_model(storage / "digits")
    written = onnx_file.serialise

    def other(whole: onnx_file.Whole, described: Description) -> bytes:
        body = written(whole, described)
        whole.mean += 1  # the model is another one now
        return body

    monkeypatch.setattr(onnx_file, "serialise", other)
    with pytest.raises(TrainingError, match="differ from the model's by"):
        write_onnx(network, description, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )


def test_missing_packages_are_named(
    storage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    without(monkeypatch, "onnx", "onnxscript")
    assert ASD.main(arguments(storage, tmp_path / "model.onnx")) == 2
    error = capfd.readouterr().err
    assert "needs the package onnx and onnxscript: pip install" in error
    assert error.count("\n") == 1


def test_without_a_runtime_it_is_said_that_nothing_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "onnxruntime")
    description = described("resnet18_cifar", width=4)
    whole = onnx_file.Whole(build(description).eval(), description)
    assert onnx_file.check(whole, description, b"")[0].startswith("not checked: onnxruntime")


@pytest.mark.parametrize(
    ("name", "told"), [("there.onnx", "is there already"), ("none/model.onnx", "is no folder")]
)
def test_nothing_is_written_over_or_into_nowhere(tmp_path: Path, name: str, told: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    (tmp_path / "there.onnx").write_bytes(b"mine")
    with pytest.raises(InputError, match=told):
        check_target(tmp_path / name)
    assert (tmp_path / "there.onnx").read_bytes() == b"mine"


def test_without_a_model_a_line_says_what_makes_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    assert ASD.main(arguments(tmp_path, tmp_path / "model.onnx")) == 2
    assert "--export-onnx: there is no" in capfd.readouterr().err

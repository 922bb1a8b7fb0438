"""The model as others use it: the same answers without the data, the project, or trust."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

import ASD
from data.build import load_data
from data.export import write_images
from model import NETWORKS
from model.operations import NotDescribable, compute, list_operations
from run.checkpoint import LATEST
from run.product import DESCRIPTION, WEIGHTS, load_model, save_model
from tests.conftest import colourful_images, tiny_config
from tests.run.product_cases import (  # noqa: F401 (fixtures)
    build,
    describe,
    finished,
)
from utils.files import PROJECT

README = (PROJECT / "docs" / "model.md").read_text()


def readme_lines() -> str:
    found = re.search(r"```python\n(import json, safetensors.*?)```", README, re.DOTALL)
    assert found
    assert len([line for line in found[1].splitlines() if line]) == 10
    return found[1]


@pytest.fixture(scope="module")
def pngs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Tensor]:
    """The test images of the digits as PNG files, and their labels."""
    folder = tmp_path_factory.mktemp("test images")
    data, _ = load_data(tiny_config().config)
    paths = [folder / f"{index:03}.png" for index in range(len(data.test))]
    write_images(data.test.images, paths)
    return [str(path) for path in paths], data.test.labels


def predicted(
    arguments: list[str], files: list[str], capfd: pytest.CaptureFixture[str]
) -> list[dict[str, Any]]:
    capfd.readouterr()
    assert ASD.main([*arguments, "--json", "--predict", *files]) == 0
    return json.loads(capfd.readouterr().out)


def test_predictions_have_the_accuracy_that_the_run_measured(
    finished: tuple[Path, list[str]],
    pngs: tuple[list[str], Tensor],
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, arguments = finished
    files, labels = pngs
    found = predicted(arguments, files, capfd)
    assert [item["file"] for item in found] == files
    right = sum(item["label"] == str(int(label)) for item, label in zip(found, labels, strict=True))
    result = json.loads((folder / "result.json").read_text())
    about = json.loads((folder / DESCRIPTION).read_text())
    assert right / len(labels) == result["acc"] == about["acc"]


def test_the_description_tells_a_stranger_all(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    about = json.loads((folder / DESCRIPTION).read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert about["network"] == {"resnet18_cifar": {"width": 4}}
    assert about["classes"] == manifest["classes"]
    assert about["input_size"] == [16, 16]
    assert (about["mean"], about["std"]) == ([0.3] * 3, [0.35] * 3)
    assert about["data_fingerprint"] == manifest["fingerprints"]["data"]
    assert (about["dataset"], about["epochs"]) == ("digits", 9)
    result = json.loads((folder / "result.json").read_text())
    assert about["verdict"]["verdict"] == result["verdict"]
    assert about["git_commit"] == manifest["git_commit"]
    assert about["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == about["weights_sha256"]


def test_the_weights_are_those_of_the_last_checkpoint(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    state = torch.load(folder / "checkpoint" / LATEST, weights_only=True)["model_state_dict"]
    assert weights.keys() == state.keys()
    for name, value in weights.items():
        assert value.dtype == (torch.int64 if name.endswith("tracked") else torch.float32)
        assert value.is_contiguous()
        assert torch.equal(value, state[name])


def test_the_readmes_lines_in_a_process_without_this_project(
    finished: tuple[Path, list[str]],
    pngs: tuple[list[str], Tensor],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, arguments = finished
    for name in (WEIGHTS, DESCRIPTION):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "image.png").write_bytes(Path(pngs[0][7]).read_bytes())
    # -I: neither the working directory nor PYTHONPATH is searched for modules.
    alone = "import sys, importlib.util as u; assert not u.find_spec('ASD'), sys.path\n"
    command = [sys.executable, "-I", "-c", alone + readme_lines()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    label, probability = done.stdout.split()
    (ours,) = predicted(arguments, [str(tmp_path / "image.png")], capfd)
    assert label == ours["label"]
    assert float(probability) == pytest.approx(ours["probability"], abs=1e-6)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_is_used_without_this_project(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = 32
    network = build(name, size)
    save_model(tmp_path, network, describe(name, size))
    image = colourful_images(1, size)
    Image.fromarray(image[0].numpy()).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    exec(readme_lines(), known)  # noqa: S102 (the project's own README)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    with torch.no_grad():
        logits = network(((image / 255 - mean) / std).permute(0, 3, 1, 2))
    assert torch.allclose(known["known"]["logits"], logits, atol=1e-4, rtol=1e-4)
    assert capsys.readouterr().out.startswith(f"class {int(logits.argmax())} ")
    loaded, description = load_model(tmp_path)
    assert description.network.name == name
    assert not loaded.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize(
    "network",
    [
        VisionTransformer(8, 4, 1, 2, 8, 8, num_classes=3),
        SwinTransformer([2, 2], 8, [2], [2], [2, 2], num_classes=3),
    ],
    ids=["vit", "swin"],
)
def test_transformers_are_listed_for_any_batch(network: nn.Module) -> None:
    nn.init.normal_(network.head.weight if hasattr(network, "head") else network.heads[0].weight)
    operations = list_operations(network.eval(), 8, 8)
    assert json.loads(json.dumps(operations)) == operations
    for count in (1, 5):
        images = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        found = compute(operations, network.state_dict(), images)
        with torch.no_grad():
            assert torch.allclose(found, network(images), atol=1e-5)


class Undecided(nn.Module):
    """Takes another way for bright images, which no list of operations can."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = images.mean(dim=(2, 3))
        return self.linear(features) if features.sum() > 0 else features


def test_a_network_without_a_list_is_said_and_still_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotDescribable) as caught:
        list_operations(Undecided(), 8, 8)
    assert "\n" not in str(caught.value)

    def refuse(*_: object) -> None:
        raise NotDescribable("why not")

    monkeypatch.setattr("run.product.list_operations", refuse)
    network = build("resnet18_cifar", 8)
    save_model(tmp_path, network, describe("resnet18_cifar", 8))
    assert "without operations" in capsys.readouterr().out
    loaded, description = load_model(tmp_path)
    assert description.operations is None
    assert torch.equal(loaded.linear.weight, network.linear.weight)

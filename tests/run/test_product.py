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
from config.load import load_config
from config.schema import Config
from data.build import load_data
from data.export import write_images
from model import NETWORKS, Network, build_network
from model.operations import NotDescribable, compute, list_operations
from run.checkpoint import LATEST
from run.product import DESCRIPTION, WEIGHTS, Description, FrameSection, load_model, save_model
from tests.conftest import DIGITS, TINY, colourful_images, tiny_config
from tests.data.pictures import HARMFUL
from utils.errors import InputError
from utils.files import PROJECT

README = (PROJECT / "docs" / "model.md").read_text()
SMALL = {
    "resnet18_cifar": {"width": 4},
    "preactresnet18": {"width": 4},
    "densenet121": {"growth": 1},
    "vgg19_bn": {"width": 4},
    "torchvision": {"name": "shufflenet_v2_x0_5"},
}


def readme_lines() -> str:
    found = re.search(r"```python\n(import json, safetensors.*?)```", README, re.DOTALL)
    assert found
    assert len([line for line in found[1].splitlines() if line]) == 10
    return found[1]


def describe(name: str, size: int, classes: int = 3) -> Description:
    given = Config.model_validate({"network": {name: SMALL[name]}})
    return Description(
        network=given.network,
        classes=[f"class {label}" for label in range(classes)],
        input_size=[size, size],
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.25, 0.3],
        frame=FrameSection(size=size, shorter_side=size),
        transform=given.transform,
    )


def build(name: str, size: int, classes: int = 3) -> Network:
    """Return a network whose outputs differ from image to image, with statistics as if trained."""
    part = NETWORKS.get(name)
    network = build_network(part, part.Settings.model_validate(SMALL[name]), classes, 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(0)))
    return network.eval()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run of seconds: its folder, and the command line that made it."""
    storage = tmp_path_factory.mktemp("storage")
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}"]
    assert ASD.main([*arguments, "--resume", "False"]) == 0
    return storage / "digits", arguments


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


def test_weights_of_any_precision_and_layout_are_saved_alike(tmp_path: Path) -> None:
    network = build("resnet18_cifar", 8).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_model(tmp_path, network.bfloat16(), describe("resnet18_cifar", 8))
    weights = safetensors.torch.load_file(tmp_path / WEIGHTS)
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    for name, value in network.state_dict().items():
        assert torch.equal(weights[name], value.float() if value.is_floating_point() else value)
    assert network.linear.weight.dtype == torch.bfloat16  # the network itself is left as it is


def test_an_evaluation_writes_a_missing_or_damaged_model_anew(
    finished: tuple[Path, list[str]],
) -> None:
    folder, arguments = finished
    before = {name: (folder / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    untouched = (folder / WEIGHTS).stat().st_mtime_ns
    assert ASD.main(arguments) == 0
    assert (folder / WEIGHTS).stat().st_mtime_ns == untouched
    (folder / DESCRIPTION).unlink()
    (folder / WEIGHTS).write_bytes(before[WEIGHTS][:-3])
    assert ASD.main(arguments) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before


CHANGES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "torn weights": (WEIGHTS, lambda body: body[:-5], ("damaged", DESCRIPTION)),
    "no weights": (WEIGHTS, None, ("No such file",)),
    "no JSON": (DESCRIPTION, lambda body: body[:99], ("no JSON",)),
    "binary": (DESCRIPTION, lambda body: b"\xff\xfe", ("no JSON",)),
    "a list": (DESCRIPTION, lambda body: b"[1]", ("mapping",)),
    "another program's": (DESCRIPTION, lambda body: b'{"name": 1}', ("name: unknown key",)),
    "no classes": (
        DESCRIPTION,
        lambda body: body.replace(b'"classes"', b'"clasess"'),
        ("clasess: unknown key", "'classes'"),
    ),
    "a later format": (
        DESCRIPTION,
        lambda body: body.replace(b'"format": 1', b'"format": 2'),
        ("format", "2"),
    ),
    "another network": (
        DESCRIPTION,
        lambda body: body.replace(b'"width": 4', b'"width": 5'),
        ("does not fit", "size mismatch"),
    ),
    "an unknown network": (
        DESCRIPTION,
        lambda body: body.replace(b'"resnet18_cifar": {', b'"resnet18": {'),
        ("resnet18: unknown key", "resnet18_cifar"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_torn_and_foreign_files_are_one_clear_line(
    finished: tuple[Path, list[str]], tmp_path: Path, change: str
) -> None:
    name, rewrite, parts = CHANGES[change]
    for kept in (WEIGHTS, DESCRIPTION):
        (tmp_path / kept).write_bytes((finished[0] / kept).read_bytes())
    if rewrite is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(rewrite((tmp_path / name).read_bytes()))
    with pytest.raises(InputError) as caught:
        load_model(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(tmp_path / name) if change != "another network" else WEIGHTS, *parts):
        assert part in message


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_no_file_keeps_its_reader_waiting(
    finished: tuple[Path, list[str]], tmp_path: Path, name: str, kind: str
) -> None:
    for kept in (WEIGHTS, DESCRIPTION):
        (tmp_path / kept).write_bytes((finished[0] / kept).read_bytes())
    (tmp_path / name).unlink()
    HARMFUL[kind](tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path)


def test_weights_that_are_no_safetensors_are_refused_unread(
    finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    state = finished[0] / "checkpoint" / LATEST  # a pickle, digest and all in order
    (tmp_path / WEIGHTS).write_bytes(state.read_bytes())
    digest = hashlib.sha256(state.read_bytes()).hexdigest()
    about = json.loads((finished[0] / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(about | {"weights_sha256": digest}))
    with pytest.raises(InputError, match="does not fit"):
        load_model(tmp_path)


def test_the_configuration_of_the_run_is_enough_to_build_its_network(
    finished: tuple[Path, list[str]],
) -> None:
    network, _ = load_model(finished[0])
    config = load_config(finished[0] / "config.yaml").config
    assert config.network.settings.width == 4
    assert network.linear.in_features == 32

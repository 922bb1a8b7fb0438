"""The model in files: layouts, torn and foreign ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import ASD
from config.load import load_config
from model import NETWORKS, build_network
from run.checkpoint import LATEST
from run.product import DESCRIPTION, WEIGHTS, load_model, save_model
from tests.data.pictures import HARMFUL
from tests.run.product_cases import (  # noqa: F401 (fixtures)
    build,
    describe,
    finished,
)
from utils.errors import InputError


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


# Dropout, which remembers how often it was drawn, and widths that are computed with tensors.
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "regnet_y_400mf"])
def test_what_an_unusual_network_saves_it_loads(name: str, tmp_path: Path) -> None:
    part, settings = NETWORKS.get("torchvision"), {"name": name}
    network = build_network(part, part.Settings.model_validate(settings), 3, 0)
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 64, 64))  # a forward that is counted
    save_model(tmp_path, network.eval(), describe("torchvision", 64, settings=settings))
    loaded, _ = load_model(tmp_path)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key

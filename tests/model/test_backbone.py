"""A backbone that learnt elsewhere: taken where it is to be had, and nothing hangs where not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from command.arguments import parse_arguments
from config.load import load_config
from data.survey import Facts
from model import backbone as found
from model import pretrained as learnt
from model.backbone import find_backbone, is_pretrained
from run.setup import settle_auto
from utils.errors import InputError
from utils.files import PROJECT

OWN = PROJECT / "config" / "own_data.yaml"
PHOTOGRAPHS = Facts(samples=2000, smallest_class=150, side=224)
CPU, GPU = False, True


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of libraries whose weights are here; at first none, and there is no network."""
    here: set[str] = set()

    def get(name: str) -> Any:
        def fetch() -> str:
            if name not in here:
                raise InputError(f"{name}: could not be downloaded")
            return str(tmp_path / name)

        return fetch

    lite, residual = found.LITE_CHOICE[0], found.RESIDUAL_CHOICE[0]
    monkeypatch.setattr(found, "LITE_CHOICE", (lite, get("timm")))
    monkeypatch.setattr(found, "RESIDUAL_CHOICE", (residual, get("torchvision")))
    return here


@pytest.mark.parametrize(
    ("gpu", "here", "name"),
    [
        (CPU, {"timm", "torchvision"}, "timm"),
        (GPU, {"timm", "torchvision"}, "torchvision"),
        (CPU, {"torchvision"}, "torchvision"),
        (GPU, {"timm"}, "timm"),
    ],
)
def test_the_first_that_is_to_be_had(kept: set[str], gpu: bool, here: set[str], name: str) -> None:
    kept |= here
    backbone = find_backbone(gpu)
    assert backbone.section is not None and list(backbone.section) == [name]
    assert name in backbone.why
    assert is_pretrained(backbone.section)


def test_without_any_one_line_says_why(kept: set[str]) -> None:
    backbone = find_backbone(CPU)
    assert backbone.section is None
    assert "torchvision: could not be downloaded" in backbone.why
    assert "\n" not in backbone.why


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_the_usual_switch_keeps_everything_offline(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody was asked")

    monkeypatch.setenv(learnt.SWITCH, value)
    monkeypatch.setattr(learnt, "urlopen", asked)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", asked)
    backbone = find_backbone(CPU)
    assert backbone.section is None
    assert "HF_HUB_OFFLINE is set" in backbone.why


def test_the_tests_download_nothing() -> None:
    assert os.environ[learnt.SWITCH] == "1"


@pytest.mark.parametrize(
    ("section", "answer"),
    [
        ({"timm": {"name": "x", "pretrained": True}}, True),
        ({"timm": {"name": "x", "pretrained": "w.pth"}}, True),
        ({"timm": {"name": "x", "pretrained": False}}, False),
        ({"timm": {"name": "x"}}, False),
        ({"torchvision": {"name": "x", "weights": "DEFAULT"}}, True),
        ({"torchvision": {"name": "x", "weights": None}}, False),
        ({"resnet18_cifar": {"width": 16}}, False),
        ({"resnet18_cifar": None}, False),
        ("auto", False),
        (None, False),
    ],
)
def test_what_counts_as_a_start_from_elsewhere(section: Any, answer: bool) -> None:
    assert is_pretrained(section) is answer


@pytest.mark.parametrize(
    ("facts", "suits"),
    [
        (PHOTOGRAPHS, True),
        (Facts(2000, 150, 32), True),
        (Facts(2000, 150, 31), False),
        (Facts(10_000, 150, 64), True),
        (Facts(10_001, 150, 64), False),
        (Facts(10**6, 150, 64, gpu=True), True),
        (Facts(2000, 150, 32, scalable=False), False),
    ],
)
def test_a_look_only_where_it_would_help(kept: set[str], facts: Facts, suits: bool) -> None:
    kept.add("torchvision")
    assert facts.suits_backbone is suits
    backbone = facts.with_backbone().backbone
    assert backbone is not None and (backbone.section is not None) is suits
    assert suits or "images of 32 pixels and more" in backbone.why


def settings(facts: Facts, *overrides: str) -> tuple[Any, list[str]]:
    loaded = load_config(OWN, ["network=pretrained", *overrides], facts)
    return loaded.config, loaded.notices


def test_own_photographs_start_from_it_and_the_schedule_fits(kept: set[str]) -> None:
    kept.add("torchvision")  # what the tests have installed is not asked for
    config, lines = settings(PHOTOGRAPHS.with_backbone())
    assert config.network.name == "torchvision"
    assert config.network.settings.weights == "DEFAULT"
    assert config.data.image_size == 96
    assert config.num_epochs == config.global_.epoch_third == 12
    assert (config.global_.epoch_first, config.global_.epoch_second) == (5, 12)
    assert config.optimizer.arguments["lr"] == 0.0005
    assert config.learning_rate.warmup == config.semi.mixmatch.train_iteration == 32
    assert config.semi.mixmatch.train_iteration * config.semi.loader.batch_size == 1024
    (line,) = [line for line in lines if line.startswith("auto: network:")]
    assert "weights: DEFAULT" in line and "weights of ImageNet, in " in line


@pytest.mark.parametrize(("side", "size"), [(32, 128), (150, 152), (4000, 224)])
def test_on_a_gpu_images_are_as_large_as_such_weights_know_them(
    kept: set[str], side: int, size: int
) -> None:
    kept.add("torchvision")
    config, _ = settings(Facts(2000, 150, side, gpu=True).with_backbone())
    assert config.data.image_size == size
    assert config.num_epochs == 12


def test_without_one_the_small_network_learns_from_scratch_and_a_line_says_so(
    kept: set[str],
) -> None:
    config, lines = settings(PHOTOGRAPHS.with_backbone())
    before, _ = settings(PHOTOGRAPHS)
    assert config == before
    assert config.network.name == "fastnet"
    (line,) = [line for line in lines if line.startswith("auto: network:")]
    assert "no weights of ImageNet are to be had: torchvision: could not be downloaded" in line


def test_a_file_that_is_named_gets_the_same_schedule(tmp_path: Path) -> None:
    network = f"network={{torchvision: {{name: resnet18, weights: {tmp_path / 'w.pth'}}}}}"
    config, _ = settings(PHOTOGRAPHS, network)
    assert (config.num_epochs, config.data.image_size) == (12, 96)


def test_small_images_by_choice_keep_the_small_network(kept: set[str]) -> None:
    kept.add("torchvision")
    config, _ = settings(PHOTOGRAPHS.with_backbone(), "data.image_size=16")
    assert config.network.name == "fastnet"


def test_a_run_that_goes_on_asks_nobody(kept: set[str]) -> None:
    kept.add("torchvision")
    first, _ = settings(PHOTOGRAPHS.with_backbone())
    kept.clear()
    again = load_config(OWN, ["network=pretrained"], earlier=first.as_yaml())
    assert again.config == first
    assert not again.wants_backbone
    assert again.open_keys == ()


def test_only_who_asks_is_given_one(kept: set[str], tmp_path: Path) -> None:
    kept.add("torchvision")
    Image.new("RGB", (40, 40)).save(made(tmp_path / "train" / "a") / "1.png")
    Image.new("RGB", (40, 40)).save(made(tmp_path / "train" / "b") / "1.png")
    for word, name in (("auto", "fastnet"), ("pretrained", "torchvision")):
        words = ["--config", str(OWN), f"dataset_dir={tmp_path}", f"network={word}"]
        arguments = parse_arguments(words)
        loaded = load_config(OWN, arguments.overrides)
        assert loaded.wants_backbone is (word == "pretrained")
        settled = settle_auto(arguments, loaded, torch.device("cpu"))
        assert settled.config.network.name == name


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_the_word_means_nothing_to_another_key() -> None:
    with pytest.raises(InputError, match="'pretrained' given"):
        load_config(OWN, ["num_epochs=pretrained"])

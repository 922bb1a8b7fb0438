"""`auto`: what is chosen for which data, and that every choice can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from config.auto import RULES, open_keys, settle
from config.load import Loaded, load_config, read_mapping
from config.merge import merge
from config.override import read_override
from data.dataset import DATASETS, ImageData, Outline, Request, Source
from data.dataset.headers import median_side
from data.survey import Facts, survey
from run.resume import flat
from utils.errors import InputError
from utils.files import PROJECT

OWN = PROJECT / "config" / "own_data.yaml"
PRESETS = PROJECT / "config"
CPU = torch.device("cpu")


def chosen(facts: Facts, *overrides: str) -> dict[str, Any]:
    return flat(load_config(OWN, overrides, facts).config.as_yaml())


@pytest.mark.parametrize(
    ("preset", "facts"),
    [
        ("digits.yaml", Facts(1437, 133, 16)),
        ("cifar10_small.yaml", Facts(10_000, 1000, 32)),
        ("laptop/badnets.yaml", Facts(50_000, 5000, 32)),
    ],
)
def test_known_sets_are_trained_as_by_their_presets(preset: str, facts: Facts) -> None:
    but = {"data.image_size", "loader.batch_size"}
    presets, own = flat(load_config(PRESETS / preset).config.as_yaml()), chosen(facts)
    settled = [key for key in own if any(key == r or key.startswith(f"{r}.") for r in RULES)]
    keys = [key for key in settled if key not in but and not key.startswith("transform")]
    assert len(keys) >= 13
    assert {key: own[key] for key in keys} == {key: presets.get(key) for key in keys}


@pytest.mark.parametrize(
    ("facts", "size", "network"),
    [
        (Facts(1500, 100, 224), 64, "network.fastnet.width"),
        (Facts(10_000, 100, 224), 32, "network.fastnet.width"),
        (Facts(5000, 100, 224), 44, "network.fastnet.width"),
        (Facts(10_000, 100, 224, gpu=True), 224, "network.torchvision.name"),
        (Facts(10_000, 100, 4000, gpu=True), 224, "network.torchvision.name"),
        (Facts(10_000, 100, 64, gpu=True), 64, "network.fastnet.width"),
        (Facts(900, 3, 1), 16, "network.fastnet.width"),
        (Facts(900, 30, 27), 28, "network.fastnet.width"),
    ],
)
def test_sizes_and_networks(facts: Facts, size: int, network: str) -> None:
    found = chosen(facts)
    assert found["data.image_size"] == size
    assert found["transform.train.primary.random_crop.size"] == size
    assert network in found


def test_what_is_cut_down_is_said_with_the_reason() -> None:
    lines = load_config(OWN, [], Facts(10_000, 1000, 224)).notices
    (line,) = (line for line in lines if "image_size" in line)
    assert line.startswith("auto: data.image_size: 32 (")
    assert "224 pixels" in line
    assert "CPU" in line
    assert len(lines) == len(set(lines)) == len(load_config(OWN).open_keys)
    assert "auto: learning_rate: {warmup: 100, hold: 0.3}" in "\n".join(lines)


facts = st.builds(
    Facts,
    samples=st.integers(4, 10**7),
    smallest_class=st.integers(1, 10**5),
    side=st.integers(1, 20_000),
    gpu=st.booleans(),
)


@given(facts)
def test_whatever_the_data_the_choice_is_a_schedule(facts: Facts) -> None:
    found = settle(read_mapping(OWN), facts)[0]
    schedule, epochs = found["global"], found["num_epochs"]
    assert 0 < schedule["epoch_first"] < schedule["epoch_second"] == schedule["epoch_third"]
    assert schedule["epoch_third"] == epochs
    assert 0.25 < schedule["growth"] * schedule["epoch_first"] < 0.5
    assert 14 <= epochs <= 30
    assert 0.97 < found["semi"]["ema"] < 1
    assert 16 <= found["data"]["image_size"] <= (224 if facts.gpu else 64)
    assert found["semi"]["mixmatch"]["train_iteration"] >= 1


@given(facts)
def test_the_papers_stages_may_be_left_open_too(facts: Facts) -> None:
    stages = {"epoch_first": 6, "epoch_second": 9, "t": "auto", "n": "auto"}
    open_ones = {"global": stages, "meta": {"epoch": "auto"}, "lr_scheduler": "auto"}
    found = settle({**open_ones, "num_epochs": 12}, facts)[0]
    joined = found["global"]["n"] * (5 // found["global"]["t"])
    assert joined <= 0.5 * facts.smallest_class
    assert found["meta"]["epoch"] >= 1
    assert found["lr_scheduler"] == {"CosineAnnealingLR": {"T_max": 12}}


@given(facts, st.sampled_from([3, 7, 40, 200]))
def test_stages_follow_the_epochs_that_are_given(facts: Facts, epochs: int) -> None:
    for key in ("num_epochs", "global.epoch_third"):
        given_epochs = merge(read_mapping(OWN), read_override(f"{key}={epochs}"))
        found = settle(given_epochs, facts)[0]
        schedule = found["global"]
        assert found["num_epochs"] == schedule["epoch_third"] == epochs
        assert 0 < schedule["epoch_first"] <= schedule["epoch_second"] <= epochs
        assert (schedule["epoch_first"] - 1) * schedule["growth"] <= 0.5  # as large as usual


@pytest.mark.parametrize("samples", [4, 3000, 10**7])
@pytest.mark.parametrize("gpu", [False, True])
def test_the_choice_is_a_valid_configuration(samples: int, gpu: bool) -> None:
    for overrides in ([], ["num_epochs=3"]):
        load_config(OWN, overrides, Facts(samples, samples // 4, 40, gpu))


SECTIONS = {"network", "lr_scheduler", "optimizer", "learning_rate"}


@pytest.mark.parametrize("key", sorted(set(RULES) - SECTIONS))
def test_every_choice_can_be_set(key: str) -> None:
    numbers = {"global.epoch": 12, "global.growth": 0.3, "semi.ema": 0.9}
    value = next((v for start, v in numbers.items() if key.startswith(start)), 17)
    of_network = key.startswith("network") and [f"network={{{key.split('.')[1]}: {{width: auto}}}}"]
    loaded = load_config(OWN, [*(of_network or []), f"{key}={value}"], Facts(1437, 133, 16))
    settled = flat(loaded.config.as_yaml())
    assert settled.get(key, settled.get(f"{key}.decay")) == value
    assert not any(line.startswith(f"auto: {key}:") for line in loaded.notices)


@pytest.mark.parametrize(
    ("network", "rate"),
    [("{fastnet: null}", 0.005), ("{fastnet: {width: 16}}", 0.005), ("{vgg19_bn: null}", 0.002)],
)
def test_the_rate_is_that_of_the_network(network: str, rate: float) -> None:
    found = chosen(Facts(10_000, 1000, 32), f"network={network}")
    assert found["optimizer.Adam.lr"] == rate


def test_a_width_alone_may_be_left_open() -> None:
    network = "network={resnet18_cifar: {width: auto}}"
    assert chosen(Facts(50_000, 5000, 32, gpu=True), network)["network.resnet18_cifar.width"] == 64


def test_a_key_without_a_rule_takes_no_auto() -> None:
    with pytest.raises(InputError, match=r"semi\.mixmatch\.alpha: 'auto' given"):
        load_config(OWN, ["semi.mixmatch.alpha=auto"])


def test_a_run_that_goes_on_keeps_its_choices() -> None:
    first = load_config(OWN, [], Facts(1437, 133, 16))
    kept = load_config(OWN, [], earlier=first.config.as_yaml())
    assert kept.config == first.config
    assert kept.open_keys == ()
    assert all(line.endswith("(as before)") for line in kept.notices)
    assert not open_keys(first.config.as_yaml())
    assert load_config(OWN).open_keys  # nobody has looked at the data


def look(root: Path, *overrides: str) -> Facts:
    loaded: Loaded = load_config(OWN, [f"dataset_dir={root}", *overrides])
    return survey(loaded.config, CPU)


def test_a_look_at_a_folder(tmp_path: Path) -> None:
    for name, sides in {"a": [(9, 30)] * 3, "b c": [(50, 12), (20_000, 1), (14, 14)]}.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for number, size in enumerate(sides):
            Image.new("RGB", size).save(tmp_path / "train" / name / f"{number}.png")
    (tmp_path / "train" / "b c" / "text.png").write_text("not an image")
    (tmp_path / "train" / "b c" / "loop").symlink_to(tmp_path)
    (tmp_path / "test" / "a").mkdir(parents=True)
    assert look(tmp_path) == Facts(samples=7, smallest_class=3, side=9)
    assert look(tmp_path, "data.train_samples=4") == Facts(samples=4, smallest_class=1, side=9)
    assert median_side([tmp_path / "nowhere.png"]) == 1


def test_a_look_at_a_set_that_is_no_folder() -> None:
    found = survey(load_config(OWN, ["dataset=digits"]).config, CPU)
    assert found == Facts(1437, 139, 16, scalable=False)
    config = load_config(OWN, ["dataset=digits"], found).config
    assert config.data.image_size is None
    assert flat(config.as_yaml())["transform.train.primary.random_crop.size"] == 16


class Listed(Source):
    """Knows what its images are like without loading them."""

    def load(self, request: Request) -> ImageData:
        raise AssertionError("the images are not needed")

    def outline(self, request: Request) -> Outline:
        return Outline(torch.tensor([0] * 70 + [1] * 30), 48)


def test_a_data_set_says_itself_what_its_images_are_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_entries", {**DATASETS._entries, "listed": Listed})
    config = load_config(PROJECT / "config" / "digits.yaml", ["dataset=listed"]).config
    facts = survey(config, CPU)
    assert (facts.samples, facts.smallest_class, facts.side) == (100, 30, 48)

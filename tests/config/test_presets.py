"""Every YAML that people are given loads, and the published one is the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import load_config
from utils.files import PROJECT

CONFIG = PROJECT / "config"
ALL = sorted(CONFIG.rglob("*.yaml"))
BEYOND = [
    CONFIG / "digits.yaml",
    CONFIG / "cifar10_small.yaml",
    *(CONFIG / "laptop").glob("*.yaml"),
]
BEYOND += [*(CONFIG / "robust").glob("*.yaml"), *(CONFIG / "small").glob("*.yaml")]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(CONFIG).as_posix())
def test_a_preset_loads(path: Path) -> None:
    config = load_config(path, []).config
    if path.stem.endswith("_none"):
        assert config.defense == "none"


def test_the_published_setting_asks_and_averages_nothing() -> None:
    config = load_config(CONFIG / "baseline_asd.yaml", []).config
    assert config.witness.heard == []
    assert not config.needs_hearing
    assert config.global_.epsilon == 0.5
    assert config.global_.growth is None
    assert config.global_.meta_agreement is None
    assert config.semi.ema.decay == 0
    assert config.semi.loader.balance == "equal"
    assert not config.semi.mixmatch.alignment
    assert not config.semi.mixmatch.adjustment
    assert config.learning_rate is None
    assert config.split.augment


@pytest.mark.parametrize("path", BEYOND, ids=lambda path: path.relative_to(CONFIG).as_posix())
def test_presets_beyond_the_paper_hear_a_witness(path: Path) -> None:
    config = load_config(path, []).config
    heard = [choice.name for choice in config.witness.heard]
    assert "unverified_group" in heard
    assert config.network.name == "fastnet"
    if config.defense == "asd":
        assert config.needs_hearing
        assert config.global_.epsilon == "auto"


@pytest.mark.parametrize("folder", ["small", "laptop"])
def test_every_attack_has_its_plain_training(folder: str) -> None:
    names = {path.stem for path in (CONFIG / folder).glob("*.yaml")}
    for name in names:
        if not name.endswith("_none"):
            assert f"{name}_none" in names
            defended, plain = (
                load_config(CONFIG / folder / f"{one}.yaml", []).config
                for one in (name, f"{name}_none")
            )
            assert defended.backdoor == plain.backdoor
            assert defended.network == plain.network

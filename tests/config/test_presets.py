"""Every YAML that people are given loads, and the published one is the paper's."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import run_all
from command.jobs import plan_job
from config.load import load_config
from config.methods import METHODS
from config.no_effect import stands_in
from config.schema import Config
from data.attack import ATTACKS
from repair import REPAIRS
from run.resume import flat
from utils.files import PROJECT

CONFIG = PROJECT / "config"
ALL = sorted(CONFIG.rglob("*.yaml"))
BEYOND = [
    CONFIG / "digits.yaml",
    CONFIG / "cifar10_small.yaml",
    *(CONFIG / "laptop").glob("*.yaml"),
]
FULL = ("cifar10", "gtsrb", "imagenet30", "vggface2_30")
FULL_SIZE = [path for folder in FULL for path in sorted((CONFIG / folder).glob("*.yaml"))]
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


@cache
def of_method(path: Path, method: str) -> Config:
    """Return the configuration of a method's run as `run_all.py` plans it."""
    config = plan_job(path, method, []).config
    assert config is not None
    return config


@pytest.mark.parametrize("path", FULL_SIZE, ids=lambda path: path.relative_to(CONFIG).as_posix())
def test_plain_training_of_the_whole_size_is_the_published_one(path: Path) -> None:
    """SGD 0.1, momentum 0.9, weight decay 5e-4, batches of 128, 200 epochs, a tenth at 100, 150."""
    typed = load_config(path, ["defense=none", "repair.method=null"]).config
    for config in (of_method(path, "none"), typed):
        assert config.defense == "none"
        assert config.optimizer.name == "SGD"
        expected = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
        assert config.optimizer.arguments == expected
        assert config.lr_scheduler is not None
        assert config.lr_scheduler.name == "MultiStepLR"
        assert config.lr_scheduler.arguments == {"milestones": [100, 150], "gamma": 0.1}
        assert config.learning_rate is None
        assert config.num_epochs == 200
        assert config.loader.batch_size == 128
        assert config.criterion.name == "cross_entropy"


@pytest.mark.parametrize("folder", ["cifar10", "gtsrb"])
def test_abl_and_nad_cut_a_hole_out_and_nobody_else_does(folder: str) -> None:
    for path in (CONFIG / folder).glob("*.yaml"):
        for method in METHODS:
            config = of_method(path, method)
            steps = {choice.name: choice.settings for choice in config.transform.train.primary}
            assert ("cutout" in steps) is (method in {"abl", "nad"})
            if "cutout" in steps:
                assert list(steps)[-1] == "cutout"  # after crop and flip
                assert (steps["cutout"].holes, steps["cutout"].length) == (1, 3)
            if method == "abl":
                assert config.loader.batch_size == 64 and config.own.batch_size is None


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_baselines_are_the_folder_of_cifar10(method: str) -> None:
    """One place says how each method trains on its own."""
    baseline = load_config(CONFIG / f"baseline_{method}.yaml").config
    planned = of_method(CONFIG / "cifar10" / "badnets.yaml", method)
    assert baseline == planned.model_copy(update={"repair": baseline.repair})
    assert baseline.repair.method == (method if method in REPAIRS else None)
    assert baseline.repair.parts == planned.repair.parts  # `of` alone differs


def test_abl_is_as_long_as_in_the_paper() -> None:
    abl = load_config(CONFIG / "baseline_abl.yaml").config.own
    lengths = (abl.isolation_epochs, abl.fine_tuning_epochs, abl.unlearning_epochs)
    assert (lengths, abl.isolation, abl.fraction) == ((20, 60, 20), "lga", 0.01)


@pytest.mark.parametrize("folder", ["imagenet30", "vggface2_30"])
def test_dbd_at_224_pixels_is_the_published_one(folder: str) -> None:
    for path in (CONFIG / folder).glob("*.yaml"):
        config = of_method(path, "dbd")
        assert config.semi.criterion.mixmatch.lambda_u == 6
        assert config.own.warm_up.batch_size == 256
        assert (config.own.mixmatch_epochs, config.num_epochs) == (80, 1090)
        assert load_config(path).config.semi.criterion.mixmatch.lambda_u == 15  # ASD's


LAPTOP_SIZED = [path for path in BEYOND if not path.stem.endswith("_none")]
LAPTOP_SIZED.append(CONFIG / "own_data.yaml")


def trained_images(config: Config, samples: int) -> int:
    """Return how many images a method takes through the network and back; three passes are one."""
    steps = config.semi.mixmatch.train_iteration * 3 * config.semi.loader.batch_size
    if config.defense == "asd":
        return config.num_epochs * steps
    if config.defense == "abl":
        return samples * (config.own.isolation_epochs + config.own.fine_tuning_epochs)
    dbd = config.own
    views = 2 * dbd.contrastive.epochs * samples + dbd.warm_up.epochs * samples // 3
    return views + dbd.mixmatch_epochs * steps


@pytest.mark.parametrize("path", LAPTOP_SIZED, ids=lambda path: path.relative_to(CONFIG).as_posix())
def test_every_method_has_the_size_of_its_preset(path: Path) -> None:
    """As published, DBD's SimCLR alone would take weeks on two CPU cores."""
    samples = 1437 if path.stem == "digits" else 50_000 if path.parent.name == "laptop" else 10_000
    limit = 2.5 * trained_images(of_method(path, "asd"), samples)
    for method in ("abl", "dbd"):
        assert 0 < trained_images(of_method(path, method), samples) < limit
    assert of_method(path, "fine_pruning").repair.settings.num_epochs <= 20
    assert of_method(path, "nad").repair.settings.num_epochs <= 10
    abl = of_method(path, "abl").own
    assert abl.milestones[-1] < abl.fine_tuning_epochs


@pytest.mark.parametrize("path", LAPTOP_SIZED, ids=lambda path: path.relative_to(CONFIG).as_posix())
def test_dbd_has_its_own_values_and_not_those_of_asd(path: Path) -> None:
    config = of_method(path, "dbd")
    assert config.semi.criterion.mixmatch.lambda_u == 15
    assert config.semi.loader.balance == "equal"
    assert (config.optimizer.name, config.optimizer.arguments) == ("Adam", {"lr": 0.002})
    assert config.learning_rate is config.lr_scheduler is None
    assert of_method(path, "asd").semi.criterion.mixmatch.lambda_u < 15


def test_signs_are_split_for_a_hundred_epochs() -> None:
    config = load_config(CONFIG / "gtsrb" / "wanet.yaml").config
    assert (config.num_epochs, config.global_.epoch_third) == (100, 100)


@pytest.mark.parametrize("path", BEYOND, ids=lambda path: path.relative_to(CONFIG).as_posix())
def test_presets_beyond_the_paper_hear_a_witness(path: Path) -> None:
    config = load_config(path, []).config
    heard = [choice.name for choice in config.witness.heard]
    assert "unverified_group" in heard
    assert config.network.name == "fastnet"
    if config.defense == "asd":
        assert config.needs_hearing
        assert config.global_.epsilon == "auto"


def test_presets_hear_whom_the_page_on_witnesses_names() -> None:
    page = (PROJECT / "docs" / "witnesses.md").read_text(encoding="utf-8")
    told = re.search(r"`laptop/\*\.yaml` hear five: (.*?)\. ", page)
    assert told
    five = re.findall("`(.+?)`", told[1])
    assert len(five) == 5
    for pattern in ("cifar10_small.yaml", "small/*.yaml", "laptop/*.yaml"):
        paths = list(CONFIG.glob(pattern))
        assert paths
        for path in paths:
            assert {choice.name for choice in load_config(path).config.witness.heard} == set(five)


def test_one_percent_of_all_samples_are_poisoned_in_robust() -> None:
    """Of ten even classes; a clean-label attack takes its share of one."""
    for path in (CONFIG / "robust").glob("*.yaml"):
        backdoor = load_config(path).config.backdoor
        assert backdoor is not None
        if ATTACKS.get(backdoor.attack.name).clean_label:
            assert backdoor.attack.settings.class_fraction / 10 == pytest.approx(0.01)
        else:
            assert backdoor.poison_ratio == 0.01


def test_the_papers_attacks_are_there_for_signs_on_a_laptop() -> None:
    for attack in run_all.PAPER_ATTACKS:
        for ending in ("", "_none"):
            config = load_config(CONFIG / "laptop" / f"gtsrb_{attack}{ending}.yaml").config
            assert (config.dataset, config.num_classes) == ("gtsrb", 43)
            assert config.backdoor is not None and config.backdoor.attack.name == attack
            mirrors = getattr(config.backdoor.attack.settings, "flip", False)  # the attacker's too
            steps = [step.name for step in config.transform.train.primary]
            assert not mirrors and "random_horizontal_flip" not in steps


@pytest.mark.parametrize("folder", ["small", "laptop", "robust"])
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


@pytest.mark.parametrize(
    ("folder", "base"),
    [("small", "cifar10_small"), ("laptop", "laptop/badnets"), ("robust", "robust/badnets")],
)
def test_no_preset_knows_which_attack_it_defends_against(folder: str, base: str) -> None:
    """A defender does not; so all of a size differ in the attack and the data set alone."""
    of_data = ("dataset", "num_classes", "transform.train.primary.random_horizontal_flip")
    expected = flat(load_config(CONFIG / f"{base}.yaml").config.as_yaml())
    paths = [p for p in (CONFIG / folder).glob("*.yaml") if not p.stem.endswith("_none")]
    assert len(paths) >= 9
    for path in paths:
        found = flat(load_config(path).config.as_yaml())
        apart = (key for key in {*found, *expected} if found.get(key) != expected.get(key))
        allowed = ("backdoor", *(of_data if path.stem.startswith("gtsrb") else ()))
        assert all(stands_in(key, allowed) for key in apart), path.name

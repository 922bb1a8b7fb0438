"""The configuration: published files run unchanged, slips of the pen are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import load_config, run_name
from config.merge import merge
from config.no_effect import NO_EFFECT
from config.schema import Config
from data.build import load_data
from data.chosen_set import dataset_name
from run.resume import flat
from tests.conftest import DIGITS, tiny_config
from utils.errors import InputError
from utils.files import PROJECT

READY = sorted((PROJECT / "config").glob("**/*.yaml"))
BASELINE = PROJECT / "config" / "baseline_asd.yaml"
SMALL = PROJECT / "tests" / "config" / "cifar10_small.yaml"
PUBLISHED = Path(__file__).parent / "published.yaml"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(*overrides: str, path: Path = BASELINE) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_every_ready_configuration_is_valid(path: Path) -> None:
    loaded = load_config(path)
    assert loaded.notices == []
    assert loaded.name == path.relative_to(PROJECT / "config").with_suffix("").as_posix()


def test_published_configuration_means_the_same_as_the_baseline() -> None:
    published, ours = load_config(PUBLISHED), load_config(BASELINE)
    theirs, mine = flat(published.config.as_yaml()), flat(ours.config.as_yaml())
    same = {key for key in theirs.keys() & mine.keys() if theirs[key] == mine[key]}
    differing = (theirs.keys() | mine.keys()) - same
    derived = {key for key in differing if key.endswith(("num_classes", "rampup_length"))}
    assert differing - derived - set(NO_EFFECT) == {"dataset", "dataset_dir"}
    assert dataset_name(published.config)[0] == "cifar10"


def test_every_published_key_without_effect_is_said() -> None:
    notices = load_config(PUBLISHED).notices
    for key in NO_EFFECT:
        assert any(line.startswith(f"{key} has no effect") for line in notices), key


def test_the_published_rule_for_the_data_set_is_said() -> None:
    name, notice = dataset_name(load_config(PUBLISHED).config)
    assert name == "cifar10"
    assert notice is not None
    assert "dataset_dir" in notice
    with pytest.raises(InputError, match="dataset: missing"):
        dataset_name(load_config(PUBLISHED, ["dataset_dir=/data/animals"]).config)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("global.epoc_first=3", ["command line", "global.epoc_first", "'epoch_first'"]),
        ("optimiser.Adam.lr=1", ["optimiser", "'optimizer'"]),
        ("optimizer.Adam.lrr=1", ["optimizer.Adam.lrr", "'lr'"]),
        ("optimizer.Adamm.lr=1", ["optimizer.Adamm", "'Adam'"]),
        ("optimizer.Adam.lr=-1", ["optimizer", "Invalid learning rate"]),
        ("optimizer.Adam=3", ["optimizer", "settings below Adam"]),
        ("network.resnet18_cifar.wdth=3", ["network.resnet18_cifar.wdth", "'width'"]),
        ("backdoor.badnet.trigger_path=x", ["backdoor.badnet", "'badnets'"]),
        ("backdoor.poison_ratio=1.5", ["backdoor.poison_ratio", "1.5", "less than or equal to 1"]),
        ("transform.train.primary.random_cop.size=3", ["random_cop", "'random_crop'"]),
        ("transform.train.primary.random_crop.size=big", ["random_crop.size", "'big'", "integer"]),
        ("seed.seed=x", ["seed.seed", "'x'", "integer"]),
        ("num_epochs=true", ["num_epochs", "True", "integer"]),
        ("num_epochs=121", ["num_epochs", "global.epoch_third"]),
        ("global.epoch_first=100", ["global.epoch_first", "global.epoch_second"]),
        (
            "semi.criterion.mixmatch.rampup_length=100",
            ["semi.criterion.mixmatch.rampup_length", "num_epochs"],
        ),
        ("defense=adc", ["defense", "asd"]),
        ("dataset=cifar11", ["dataset", "'cifar10'"]),
        ("meta=3", ["meta", "3", "mapping"]),
        ("speed.precision=fp16", ["speed.precision", "fp16", "bf16"]),
        ("num_epochs", ["num_epochs", "key.subkey=value"]),
        ("num_epochs: [", ["key.subkey=value"]),
        ("num_epochs=[", ["command line", "num_epochs"]),
    ],
)
def test_wrong_keys_and_values_are_named(override: str, parts: list[str]) -> None:
    message = refused(override)
    for part in parts:
        assert part in message, message


def test_an_error_names_the_file_that_holds_it(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASELINE.read_text() + "\ntest_intervall: 3\n")
    child = write(tmp_path, "child.yaml", "extends: base.yaml\nnum_epochs: 50\n")
    message = refused(path=child)
    assert "base.yaml" in message
    assert "'test_interval'" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1", "line"),
        ("a: 1\na: 2\n", "given twice"),
        ("- 1\n", "mapping"),
        ("extends: missing.yaml\n", "missing.yaml"),
        ("extends: me.yaml\n", "extends itself"),
        ("seed: !!python/object/apply:os.system ['true']\n", "line 1"),
    ],
)
def test_unreadable_files(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(path=write(tmp_path, "me.yaml", text))


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"seed: !!python/object/apply:os.mkdir ['{mark}']\n"
    refused(path=write(tmp_path, "me.yaml", text))
    assert not mark.exists()


def test_extends_and_overrides_are_merged_in_order(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", f"extends: {DIGITS}\nnum_epochs: 20\nseed: {{seed: 1}}\n")
    child = write(tmp_path, "child.yaml", "extends: base.yaml\nseed: {seed: 2}\n")
    config = load_config(child, ["seed.seed=3"]).config
    assert (config.num_epochs, config.seed.seed, config.dataset) == (20, 3, "digits")
    assert config.seed.benchmark is True


def test_naming_another_part_replaces_it_with_its_settings() -> None:
    config = load_config(BASELINE, ["optimizer.SGD.lr=1e-1"]).config
    assert config.optimizer.name == "SGD"
    assert config.optimizer.arguments == {"lr": 0.1}
    below = ("abl.optimizer", "dbd.contrastive.optimizer", "dbd.warm_up.optimizer")
    for key in below:
        config = load_config(BASELINE, [f"defense={key[:3]}", f"{key}={{RMSprop: {{lr: 0.1}}}}"])
        section = config.config.as_yaml()
        for part in key.split("."):
            section = section[part]
        assert section == {"RMSprop": {"lr": 0.1}}
    base = {"poison_ratio": 0.1, "badnets": {"trigger_path": "x"}}
    merged = merge({"backdoor": base}, {"backdoor": {"other": None}})
    assert merged == {"backdoor": {"poison_ratio": 0.1, "other": None}}


def test_a_cosine_follows_the_epochs_unless_it_has_a_length() -> None:
    def length(*overrides: str) -> Any:
        scheduler = load_config(SMALL, overrides).config.lr_scheduler
        assert scheduler is not None
        return scheduler.arguments["T_max"]

    assert length() == 50
    stages = "dbd={contrastive: {epochs: 3}, warm_up: {epochs: 2}, mixmatch_epochs: 4}"
    assert length("defense=dbd", stages) == 4  # MixMatch alone trains with the optimiser
    assert length("num_epochs=7") == 7
    assert length("num_epochs=7", "lr_scheduler.CosineAnnealingLR.T_max=9") == 9
    cosine = ["lr_scheduler.CosineAnnealingLR=null"]
    baseline = load_config(BASELINE, cosine).config.lr_scheduler
    assert baseline is not None and baseline.arguments == {"T_max": 120}
    assert "lr_scheduler" in refused("lr_scheduler.CosineAnnealingLR=3")


def test_the_saved_configuration_means_the_same(tmp_path: Path) -> None:
    for path in READY:
        config = load_config(path).config
        saved = write(tmp_path, "saved.yaml", yaml.safe_dump(config.as_yaml()))
        assert load_config(saved).config.as_yaml() == config.as_yaml()


def test_class_counts_must_fit_the_data() -> None:
    with pytest.raises(InputError, match="num_classes and dataset contradict"):
        load_data(tiny_config("num_classes=7").config)
    with pytest.raises(InputError, match=r"network\.resnet18_cifar\.num_classes"):
        load_data(tiny_config("network.resnet18_cifar.num_classes=7").config)


def test_run_names() -> None:
    assert run_name(PROJECT / "config" / "gtsrb" / "blend.yaml") == "gtsrb/blend"
    assert run_name(Path("/somewhere/else/mine.yaml")) == "mine"


@settings(max_examples=60)
@given(st.sampled_from(sorted(flat(Config().as_yaml()))), st.data())
def test_any_value_is_taken_or_refused_in_one_line(key: str, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(["-1", "0", "x", "[]", "{}", "1e400", "true", "''", ".nan"]))
    message = ""
    try:
        load_config(BASELINE, [f"{key}={value}"])
    except InputError as error:
        message = str(error)
    assert "\n" not in message

"""Keys of the command line: what was typed is what counts."""

from __future__ import annotations

from typing import Any

import pytest

from config.load import load_config
from config.override import read_override, takes_text
from tests.conftest import DIGITS
from utils.errors import InputError


def refused(argument: str) -> str:
    with pytest.raises(InputError) as caught:
        load_config(DIGITS, [argument])
    message = str(caught.value)
    assert message.startswith("command line")
    assert "\n" not in message
    return message


def value_of(argument: str) -> Any:
    data: Any = read_override(argument)
    for key in argument.partition("=")[0].split("."):
        data = data[key]
    return data


TEXT_KEYS = ("dataset_dir", "storage_dir", "data.cache_dir", "data.truth", "global.seed_dir",
             "global.seed_indices", "review", "saved_dir", "repair.of",
             "backdoor.badnets.trigger_path", "backdoor.refool.reflections")  # fmt: skip


@pytest.mark.parametrize("key", TEXT_KEYS)
@pytest.mark.parametrize(
    "typed",
    ["/a/K #1", "#1", "2024", "010", "W: one", "[a]", "{a}", "yes", "1e3", "a: b: c", "*", "K ",
     "- a", "&a", "%a", "@a", "`a", "!a", "|", "?"],
)  # fmt: skip
def test_a_text_is_what_was_typed(key: str, typed: str) -> None:
    assert value_of(f"{key}={typed}") == typed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("'/a/K #1'", "/a/K #1"),
        ('"/a/\\u004b"', "/a/K"),
        ("'null'", "null"),
        ("!!str 2024", "2024"),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_a_text_in_quotes_is_yaml_and_may_be_nothing(typed: str, meant: str | None) -> None:
    assert value_of(f"data.truth={typed}") == meant


def test_a_text_reaches_the_configuration() -> None:
    config = load_config(DIGITS, ["storage_dir=/a/K #1", "saved_dir=2024"]).config
    assert (config.storage_dir, config.saved_dir) == ("/a/K #1", "2024")


@pytest.mark.parametrize(
    "argument",
    [
        "seed.seed=7 # mine",
        "seed.seed=# mine",
        "backdoor={badnets: {trigger_path: a}} # b",
        "backdoor={badnets: {trigger_path: a #1\n}}",
        "network.torchvision.weights=/a/K #1",
        "report_formats=[sarif] #",
        "storage_dir='a' # b",
    ],
)
def test_a_comment_is_refused(argument: str) -> None:
    assert "comment" in refused(argument)


@pytest.mark.parametrize(
    "argument",
    ["seed.seed=010", "seed.seed=-017", "num_epochs=1:30", "backdoor={target_label: 03}",
     "data.train_samples=0_7", "transform.train.primary.random_crop.size=032"],
)  # fmt: skip
def test_an_integer_to_another_base_is_refused(argument: str) -> None:
    assert "base of 10" in refused(argument)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed.seed=0", 0),
        ("num_epochs=100", 100),
        ("optimizer.SGD.lr=0.010", 0.01),
        ("global.epsilon=.5", 0.5),
        ("backdoor.blend.alpha=1e-3", 0.001),
        ("meta.layers=['a #1', \"b # 2\", c#3]", ["a #1", "b # 2", "c#3"]),
        ("meta.layers=['010', a:1:30]", ["010", "a:1:30"]),
        ("network={fastnet: {width: 16}}", {"fastnet": {"width": 16}}),
    ],
)
def test_all_else_is_yaml(argument: str, value: object) -> None:
    assert value_of(argument) == value


def test_a_control_character_is_refused() -> None:
    assert "character" in refused("dataset_dir=a\x07b")
    assert "character" in refused("storage_dir=a\nb")


def test_a_number_where_a_text_belongs_says_how_to_write_it() -> None:
    message = refused("network={torchvision: {name: 18}}")
    assert "18 given" in message
    assert "quotes" in message


def test_what_takes_a_text_is_the_schemas_to_say() -> None:
    keys = {key: takes_text(key.split(".")) for key in (*TEXT_KEYS, "seed.seed", "num_epochs",
            "data", "network", "semi.loader.balance", "nothing", "nothing.below")}  # fmt: skip
    assert {key for key, is_text in keys.items() if is_text} == set(TEXT_KEYS)

"""One settings file on top of another, and what an empty key means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import load_config, value_at
from config.merge import merge
from config.override import read_override
from config.schema import Config
from defense.settings import own_sections
from repair import REPAIRS
from training.settings import AverageSection, AverageUse
from utils.files import PROJECT
from utils.section import Section

SMALL = PROJECT / "tests" / "config" / "cifar10_small.yaml"


def plain_sections(section: type[Section] = Config, path: str = "") -> Iterator[str]:
    """Yield the dotted key of every section that is there whatever a YAML says."""
    for key in sorted({*section.known_keys(), *own_sections(), *REPAIRS}):
        found = section.below(key)
        if found is not None and not found.may_be_nothing:
            yield f"{path}{key}"
            yield from plain_sections(found.section, f"{path}{key}.")


MEAN_NOTHING = {"repair", *(f"transform.{use}.remaining.normalize" for use in ("train", "test"))}


@pytest.mark.parametrize("key", sorted({*plain_sections()} - MEAN_NOTHING))
def test_a_section_with_nothing_below_it_keeps_what_is_inherited(key: str) -> None:
    inherited: dict[str, Any] = {"something": {"below": 1}}
    for part in reversed(key.split(".")):
        inherited = {part: inherited}
    assert merge(inherited, read_override(f"{key}=")) == inherited
    assert merge({}, read_override(f"{key}=")) == read_override(f"{key}=")  # all defaults


def test_an_empty_section_of_a_file_keeps_what_is_inherited(tmp_path: Path) -> None:
    empty = "".join(f"{key}:\n" for key in ("witness", "global", "semi", "seed", "data"))
    empty += "transform:\n  train:\n"
    child = tmp_path / "child.yaml"
    for text in (empty, "semi:\n  ema:\n  mixmatch:\n"):
        child.write_text(f"extends: {SMALL}\n{text}")
        assert load_config(child).config == load_config(SMALL).config


def test_an_empty_key_that_chooses_or_takes_away_still_does() -> None:
    own = PROJECT / "config" / "digits.yaml"
    assert load_config(own, ["backdoor="]).config.backdoor is None
    assert load_config(own, ["learning_rate="]).config.learning_rate is None
    normalize = "transform.test.remaining.normalize"
    assert (
        load_config(own, [f"{normalize}="]).config.transform.test.remaining.normalize.mean
        == [0.0] * 3
    )
    base = {
        "network": {"fastnet": {"width": 24}},
        "backdoor": {"sig": {"delta": 30}, "badnets": {"patch": {"size": 3}}},
        "repair": {"method": "nad", "nad": {"num_epochs": 5}},
    }
    for key in ("network.fastnet", "backdoor.sig", "backdoor.badnets.patch", "lr_scheduler"):
        change = read_override(f"{key}=")
        merged = merge(base, change)
        assert value_at(merged, tuple(key.split("."))) is None, key
    assert merge(base, {"repair": None})["repair"] == {"method": None, "nad": {"num_epochs": 5}}


def test_a_mapping_on_top_of_a_number_keeps_what_the_number_says() -> None:
    assert load_config(SMALL, ["semi.ema=0.9", "semi.ema.use.guess=true"]).config.semi.ema == (
        AverageSection(decay=0.9, use=AverageUse(guess=True))
    )


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("xyz"), plain, max_size=3)


@given(mappings, mappings)
def test_merging_keeps_the_change_and_what_it_does_not_touch(
    base: dict[str, Any], change: dict[str, Any]
) -> None:
    merged = merge(base, change)
    assert merge(merged, change) == merged
    for key in base.keys() - change.keys():
        assert merged[key] == base[key]
    for key, value in change.items():
        if not isinstance(value, dict):
            assert merged[key] == value

"""Flags, overrides and names, by the real entry point: taken, or refused in one short line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.schema import Config
from data.attack import ATTACKS
from data.transform import TRANSFORMATIONS
from model import NETWORKS
from run.resume import flat
from tests.fuzz.entry import CHECK, fuzz, is_answered, is_untouched

SLOW = ("clb", "flip", "gcb", "iab")  # these train a network before the plan can be told
PART_KEYS = [
    *(f"backdoor.{name}.{key}" for name in ATTACKS if name not in SLOW
      for key in ATTACKS.get(name).Settings.model_fields),
    *(f"network.{name}.{key}" for name in NETWORKS
      for key in NETWORKS.get(name).Settings.model_fields),
    *(f"transform.train.primary.{name}.{key}" for name in TRANSFORMATIONS
      for key in TRANSFORMATIONS.get(name).Settings.model_fields),
]  # fmt: skip
OPTIONAL = [
    "dataset", "dataset_dir", "num_classes", "data.train_samples", "data.image_size",
    "data.resize", "data.classes", "data.cache_dir", "review", "global.seed_dir",
    "global.seed_indices", "global.epsilon_meta", "lr_scheduler", "lr_scheduler.StepLR.step_size",
    "lr_scheduler.OneCycleLR.total_steps", "meta.layers", "meta.train_iteration", "network",
    "optimizer.Adam.betas", "optimizer.SGD.momentum", "optimizer", "criterion", "backdoor",
    "transform.pre", "transform.train.primary", "transform", "speed", "seed", "global", "",
]  # fmt: skip
KEYS = sorted({*flat(Config().as_yaml()), *PART_KEYS, *OPTIONAL})

words = st.sampled_from(
    ["-1", "0", "1", "2", "7", "1000000000000", "9223372036854775807", "1e-30", "1e30", "1e400",
     ".nan", "-.inf", "true", "null", "''", "auto", "~", "~nosuchuser", "/dev/zero", "/", "..",
     "none", "mean", "digits", "image_folder", "gtsrb", "!!timestamp x", "*a", "&a [*a]", "<<: 1",
     "2024-01-01", "1:30", "0x10", "1" * 400, "y" * 500, '"\\n"', '"\\ud800"', "[[[[[[", "{{x}}",
     "? [1]"]
)  # fmt: skip
plain = st.recursive(
    words | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(words, inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=5,
)
overrides = st.builds("{}={}".format, st.sampled_from(KEYS) | st.text(max_size=8), plain)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "storage"


@fuzz
@given(st.lists(overrides | st.text(max_size=20), min_size=1, max_size=3))
@example(["transform.train.primary=[0, 0, 0]"])
@example(["optimizer.Adam={1: 2}"])
@example([".".join("a" * 500) + "=1"])
@example(["num_epochs=1" + "0" * 400])
@example(["caf\udce9=1"])
@example(["storage_dir=\x00"])
def test_any_override_is_answered(storage: Path, given_overrides: list[str]) -> None:
    safe = [text for text in given_overrides if not text.startswith("-")]
    found = is_answered([*CHECK, f"storage_dir={storage}", "--check", *safe])
    assert is_untouched(storage), found


FLAGS = ["--config", "--resume", "--gpu", "--check", "--export", "--export-clean", "--report",
         "--predict", "--json", "--name", "--fail-on-suspicion", "--nothing", "--"]  # fmt: skip
values = st.sampled_from(
    ["", "False", "latest_model.pt", "cpu", "0", "-1", "a", "..", "/", "a/../..", "x" * 300,
     "~nosuchuser", "a\x00b", "a\nb", "\x1b[31m", "caf\udce9", "/dev/zero", "a.b=1", "=", "cache"]
)  # fmt: skip
pairs = st.tuples(st.sampled_from(FLAGS), st.lists(values, max_size=2))


@fuzz
@given(st.lists(pairs, min_size=1, max_size=3))
@example([("--predict", ["a\x00b"])])
@example([("--name", ["a\nb"])])
@example([("--export", ["~nosuchuser/x"]), ("--predict", ["x"])])
def test_any_command_line_is_answered(storage: Path, flags: list[tuple[str, list[str]]]) -> None:
    """Where nothing forbids it, the plan is printed; no flag lets the run begin."""
    words_given: list[Any] = [word for flag, rest in flags for word in (flag, *rest)]
    tasks = {"--check", "--report", "--export", "--export-clean", "--predict"}
    asked = [] if tasks & set(words_given) else ["--check"]
    is_answered([*CHECK, f"storage_dir={storage}", *asked, *words_given])


@fuzz
@given(st.text(min_size=1, max_size=30) | st.sampled_from(["..", "a/..", "/a", "cache/x", "~a"]))
@example("caf\udce9")
@example("a\nverdict: no sign of poison")
@example("x" * 300)
def test_any_name_is_answered(storage: Path, name: str) -> None:
    found = is_answered([*CHECK, f"storage_dir={storage}", "--check", f"--name={name}"])
    if found.code == 0:
        row = next(line for line in found.out.splitlines() if line.startswith("run's folder"))
        assert str(storage) in row
        assert "\x1b" not in row

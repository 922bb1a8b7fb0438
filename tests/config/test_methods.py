"""What a YAML says of one method alone counts for that method, in its place in the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load_config
from config.schema import Config
from tests.conftest import DIGITS
from utils.errors import InputError

BASE = """
num_epochs: 9
methods:
  none:
    num_epochs: 7
    optimizer: {SGD: {lr: 0.5}}
    lr_scheduler: {multi_step: {milestones: [3]}}
  dbd: {semi: {criterion: {mixmatch: {lambda_u: 2.0}}}}
  nad: {transform: {train: {primary: {cutout: {length: 3}}}}}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path, "base", f"extends: {DIGITS}\n{BASE}")


def settings(path: Path, *overrides: str) -> tuple[int, str, str | None, float]:
    """Return epochs, optimiser, schedule and lambda_u."""
    config: Config = load_config(path, overrides).config
    schedule = config.lr_scheduler and config.lr_scheduler.name
    weight = config.semi.criterion.mixmatch.lambda_u
    return config.num_epochs, config.optimizer.name, schedule, weight


def test_a_method_has_its_own_settings(base: Path) -> None:
    assert settings(base) == (9, "Adam", None, 15.0)
    assert settings(base, "defense=none") == (7, "SGD", "MultiStepLR", 15.0)
    assert settings(base, "defense=abl", "num_epochs=3")[1:] == ("Adam", None, 15.0)
    assert settings(base, "defense=dbd")[1:] == ("Adam", None, 2.0)


def test_a_repair_has_its_own_and_not_those_of_the_run_that_it_repairs(base: Path) -> None:
    def steps(*overrides: str) -> list[str]:
        config = load_config(base, ["defense=none", *overrides]).config
        return [step.name for step in config.transform.train.primary]

    assert steps() == ["random_crop"]
    assert steps("repair.method=nad") == ["random_crop", "cutout"]
    assert steps("repair.method=fine_pruning") == ["random_crop"]
    assert settings(base, "defense=none", "repair.method=nad")[0] == 9


def test_what_is_nearer_counts_more(base: Path, tmp_path: Path) -> None:
    """A file comes on top of all that it extends, the command line on top of all files."""
    child = write(tmp_path, "child", "extends: base.yaml\nnum_epochs: 5\n")
    assert settings(child, "defense=none") == (5, "SGD", "MultiStepLR", 15.0)
    own = write(tmp_path, "own", "extends: child.yaml\nmethods: {none: {num_epochs: 4}}\n")
    assert (settings(own)[0], settings(own, "defense=none")[0]) == (5, 4)
    assert settings(own, "defense=none", "num_epochs=2")[0] == 2
    assert settings(own, "defense=none", "methods.none.num_epochs=3")[0] == 3
    fixed = write(tmp_path, "fixed", "extends: base.yaml\ndefense: none\nmethods:\n")
    assert settings(fixed)[0] == 7


def test_what_a_run_leaves_says_what_counted(base: Path, tmp_path: Path) -> None:
    written: dict[str, Any] = load_config(base, ["defense=none"]).config.as_yaml()
    assert "methods" not in written
    kept = write(tmp_path, "kept", yaml.safe_dump(written))
    assert settings(kept) == settings(base, "defense=none")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("methods: 3", ["methods", "mapping"]),
        ("methods: [none]", ["methods", "mapping"]),
        ("methods: {nome: {num_epochs: 3}}", ["methods", "'nome'", "'none'"]),
        ("methods: {none: 3}", ["methods.none", "mapping"]),
        ("methods: {none: {num_epoch: 3}}", ["methods.none.num_epoch", "'num_epochs'"]),
        ("methods: {dbd: {backdoor: {sig: null}}}", ["methods.dbd.backdoor", "may differ"]),
        ("methods: {dbd: {network: null}}", ["methods.dbd.network", "may differ"]),
        ("methods: {dbd: {defense: none}}", ["methods.dbd.defense", "may differ"]),
        ("methods: {abl: {optimizer: null}}", ["methods.abl.optimizer", "abl does not read it"]),
        (
            "methods: {nad: {loader: {batch_size: 3}}}",
            ["methods.nad.loader.batch_size", "not read"],
        ),
        ("methods: {none: {dbd: {mixmatch_epochs: 3}}}", ["methods.none.dbd", "none does not"]),
        ("methods: {abl: {dbd: {mixmatch_epochs: 3}}}", ["methods.abl.dbd", "abl does not"]),
        ("methods: {nad: {abl: {level: 3}}}", ["methods.nad.abl.level", "nad does not read it"]),
        ("methods: {asd: {global: {epoc_first: 3}}}", ["methods.asd", "global.epoc_first"]),
        ("methods: {asd: {num_epochs: x}}", ["methods.asd", "num_epochs", "integer"]),
        ("repair: 3\nmethods: {asd: {num_epochs: 3}}", ["repair", "mapping"]),
        ("defense: [asd]\nmethods: {asd: {num_epochs: 3}}", ["defense"]),
    ],
)
def test_a_slip_is_one_line_with_its_place(text: str, parts: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, "slip", f"extends: {DIGITS}\n{text}\n")
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("taken_back", ["repair=null", "repair.method=null"])
def test_a_repair_that_is_taken_back_leaves_the_defence(base: Path, taken_back: str) -> None:
    child = write(base.parent, "child", f"extends: {base}\nrepair: {{method: nad}}\n")
    repaired = load_config(child, []).config
    assert "cutout" in str(repaired.as_yaml()["transform"])
    plain = load_config(child, [taken_back, "defense=none"]).config
    assert "cutout" not in str(plain.as_yaml()["transform"])
    assert plain.num_epochs == 7

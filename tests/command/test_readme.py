"""What the README shows works."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ASD
from data.attack import ATTACKS
from data.build import load_data, poison_data
from data.dataset import DATASETS
from defense import DEFENSES
from model import NETWORKS
from tests.conftest import tiny_config
from utils.files import PROJECT
from utils.streams import Streams

README = (PROJECT / "README.md").read_text()


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> str:
    """The README's attack, as the file and the line that it tells one to write."""
    code = re.search(r"```python\n(# data/attack/stripe\.py\n.*?)```", README, re.DOTALL)
    line = re.search(r'"stripe": "(.*?):(.*?)",', README)
    assert code and line
    assert len(code[1].splitlines()) <= 30
    module = ModuleType(line[1])
    monkeypatch.setitem(sys.modules, line[1], module)
    exec(code[1], module.__dict__)  # noqa: S102 (the project's own README)
    monkeypatch.setattr(ATTACKS, "_entries", {**ATTACKS._entries})
    ATTACKS.register("stripe", getattr(module, line[2]))
    return "backdoor={poison_ratio: 0.1, stripe: {column: 3}}"


def test_an_attack_is_one_class_and_one_line(stripe: str) -> None:
    config = tiny_config("backdoor=null", stripe).config
    data, _ = load_data(config)
    training, truth = poison_data(config, data, Streams(0))
    assert int(truth.poisoned.sum()) == 30
    poisoned = training.images[truth.poisoned]
    assert (poisoned[:, :, 3] == 255).all()
    assert not (poisoned[:, :, 4] == 255).all()


def test_a_run_with_the_readmes_attack(
    stripe: str, tiny_arguments: list[str], tmp_path: Path
) -> None:
    more = ["backdoor=null", stripe, "num_epochs=1", "defense=none"]
    assert ASD.main([*tiny_arguments, *more]) == 0
    with open(tmp_path / "digits" / "log.csv") as file:
        assert next(csv.DictReader(file))["asr"]


@pytest.mark.parametrize("name", [*ATTACKS, *DATASETS, *NETWORKS, *DEFENSES])
def test_every_part_is_in_the_readme(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", README)

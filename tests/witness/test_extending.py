"""The witness of docs/extending.md, as the file and the line that the page tells one to write."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ASD
from tests.conftest import DIGITS, TINY
from utils.files import PROJECT
from witness import WITNESSES

EXTENDING = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(# witness/colour\.py\n.*?)```", EXTENDING, re.DOTALL)
    line = re.search(r'"colour": "(.*?):(.*?)",', EXTENDING)
    assert code and line
    assert len(code[1].splitlines()) <= 40
    module = ModuleType(line[1])
    monkeypatch.setitem(sys.modules, line[1], module)
    exec(code[1], module.__dict__)  # noqa: S102 (the project's own page)
    monkeypatch.setattr(WITNESSES, "_entries", {**WITNESSES._entries})
    WITNESSES.register("colour", getattr(module, line[2]))


def test_a_witness_is_one_class_and_one_line(colour: None, tmp_path: Path) -> None:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={tmp_path}"]
    given += ["num_epochs=1", "report=true", "witness.heard={colour: {limit: 2.0}}"]
    given += ["witness.reference={network: {fastnet: {width: 4}}, epochs: 1, steps: 1}"]
    assert ASD.main(given) == 0
    with (tmp_path / "digits" / "report" / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    vetoed = [row for row in rows if row["vetoed_by"] == "colour"]
    assert vetoed
    assert all(float(row["witness_colour"]) > 2 and row["kept"] == "0" for row in vetoed)

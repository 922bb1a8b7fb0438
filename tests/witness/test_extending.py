"""The witness of docs/extending.md, as the file and the line that the page tells one to write."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import ASD
from tests.conftest import DIGITS, TINY
from tests.pages import add_part_of_the_page
from witness import WITNESSES


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> None:
    add_part_of_the_page(monkeypatch, WITNESSES, "witness/colour.py", longest=40)


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

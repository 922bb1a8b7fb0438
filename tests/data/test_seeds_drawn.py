"""Verified samples where an attack leaves a class few clean ones, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ASD
from tests.conftest import DIGITS, TINY


def run(storage: Path, *given: str) -> int:
    return ASD.main(
        ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *given]
    )


WHOLE_CLASS = "backdoor={sig: {class_fraction: 1.0}}"


def test_who_starts_from_no_verified_sample_is_not_kept_from_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "defense=none", "num_epochs=1", "report=true", WHOLE_CLASS) == 0
    told = "global.seed_num: 5 asked for, but class '3' has 0 clean samples; none are drawn"
    assert told in capsys.readouterr().out
    manifest = json.loads((tmp_path / "digits" / "manifest.json").read_text())
    assert manifest["seed_indices"] == []
    for method in ("abl", "dbd"):
        named = ["--name", method, f"defense={method}", "--check"]
        assert run(tmp_path, WHOLE_CLASS, *named) == 0
    given = ["--name", "digits_fine_pruning", "repair.method=fine_pruning", "repair.of=digits"]
    assert run(tmp_path, "defense=none", "num_epochs=1", WHOLE_CLASS, *given) == 0


@pytest.mark.parametrize("more", [[], ["defense=none", "global.seed_indices=no.txt"]])
def test_who_needs_them_or_names_them_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert run(tmp_path, WHOLE_CLASS, *more, "--check") == 2
    assert capsys.readouterr().err.startswith("error: global.seed_")


def test_what_is_left_open_takes_as_many_as_are_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nearly = "backdoor={sig: {class_fraction: 0.9}}"
    assert run(tmp_path, "global.seed_num=auto", nearly, "--check") == 0, capsys.readouterr().err

"""`run_all.py --anew`: finished runs are made again, and the earlier ones stay beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ASD
import run_all
from command.jobs import is_finished, plan_jobs
from tests.conftest import DIGITS, TINY


def test_a_finished_run_is_moved_aside_and_made_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(f"extends: {DIGITS}\n")
    settings = [*TINY, "num_epochs=1", f"storage_dir={tmp_path}"]
    one = ["--config", str(good), "--name", "good_none", "--gpu", "cpu"]
    assert ASD.main([*one, *settings, "defense=none"]) == 0
    first = (tmp_path / "good_none" / "result.json").read_bytes()
    (tmp_path / "good_none" / "mine.txt").write_text("of the first run")

    given = [str(good), "--defense", "none", "--gpu", "cpu", "--csv", str(tmp_path / "t.csv")]
    given += ["--anew", "--", *settings]
    assert is_finished(plan_jobs(run_all.parse(given))[0])
    capfd.readouterr()
    assert run_all.main(given) == 0
    assert "finished before" not in capfd.readouterr().out
    assert (tmp_path / "good_none.1" / "result.json").read_bytes() == first
    again = tmp_path / "good_none" / "result.json"
    assert sorted(path.name for path in tmp_path.glob("*/mine.txt")) == ["mine.txt"]
    assert (tmp_path / "good_none.1" / "mine.txt").is_file()
    assert json.loads(again.read_bytes())["acc"] == json.loads(first)["acc"]

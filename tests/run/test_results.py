"""Results of other runs, and of this one, with anything in them: read, or left out with a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from command.listing import poisoned_at_the_end
from report.moved import read_verdict as read_earlier
from report.verdict import VERDICT_FILE, exit_code, read_verdict
from run.fingerprints import first_difference, same_data
from run.folder import RunFolder
from run.results import comparable_results, has_result, read_result
from tests.conftest import NO_FILES
from utils.errors import InputError

OURS = {"data": "d", "poison": "p"}
GOOD: dict[str, Any] = {"defense": "none", "acc": 0.9, "asr": 0.1, "fingerprints": OURS}
DAMAGED: dict[str, bytes] = {
    "fingerprints are a list": b'{"fingerprints": []}',
    "a fingerprint is none": b'{"fingerprints": {"data": 1}}',
    "acc is a text": json.dumps(GOOD | {"acc": "high"}).encode(),
    "acc is not finite": json.dumps(GOOD | {"acc": float("nan")}).encode(),
    "acc is too large": json.dumps(GOOD | {"acc": 90.0}).encode(),
    "seed is huge": json.dumps(GOOD | {"seed": 2**70}).encode(),
    "verdict is a number": json.dumps(GOOD | {"verdict": 5}).encode(),
    "a number without end": b'{"seed": ' + b"1" * 10_000 + b"}",
    "nested without end": b"[" * 10_000,
    "a list": b"[]",
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "half": json.dumps(GOOD).encode()[:40],
}


def finished(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(content)
    return folder


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_result_is_left_out_with_a_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished(tmp_path / "a", DAMAGED[name]) / "result.json"
    finished(tmp_path / "b", json.dumps(GOOD).encode())
    results = comparable_results(RunFolder(tmp_path / "own"), OURS)
    assert [result["run"] for result in results] == ["b"]
    said = capsys.readouterr().out
    assert said.startswith(f"not compared: {path}: ")
    assert said.count("\n") == 1
    assert len(said) - len(str(path)) < 300
    assert not has_result(RunFolder(tmp_path / "a"))
    assert read_verdict(path) is None
    with pytest.raises(InputError):
        read_result(path)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_left_out(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "result.json"
    NO_FILES[kind](path)
    assert comparable_results(RunFolder(tmp_path / "own"), OURS) == []
    assert capsys.readouterr().out.count("\n") == 1


def test_other_data_and_unfinished_figures_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {key: value for key, value in GOOD.items() if key != "acc"}
    finished(tmp_path / "other", json.dumps(GOOD | {"fingerprints": {"data": "x"}}).encode())
    finished(tmp_path / "without", json.dumps(without).encode())
    finished(tmp_path / "nameless", json.dumps(GOOD | {"defense": None}).encode())
    finished(tmp_path / "aside.1", json.dumps(GOOD).encode())
    (tmp_path / "aside").mkdir()
    finished(tmp_path / "untested", json.dumps(GOOD | {"acc": None}).encode())
    own = RunFolder(finished(tmp_path / "own", json.dumps(GOOD).encode()))
    assert [result["run"] for result in comparable_results(own, OURS)] == ["untested"]
    assert capsys.readouterr().out == ""


def test_a_run_whose_name_ends_in_a_number_is_compared(tmp_path: Path) -> None:
    for name in ("ratio_0.5", "ratio_0.05", "aside", "aside.1"):
        finished(tmp_path / name, json.dumps(GOOD).encode())
    found = comparable_results(RunFolder(tmp_path / "own"), OURS)
    assert [result["run"] for result in found] == ["aside", "ratio_0.05", "ratio_0.5"]


def test_what_an_earlier_version_has_not_noted_makes_no_other_data() -> None:
    younger = OURS | {"poisoned_images": "i"}
    assert first_difference(OURS, younger) is None
    assert first_difference(younger, OURS | {"poisoned_images": "j"}) == "poisoned images"
    assert first_difference({"data": "d"}, OURS) == "poison"
    assert same_data(OURS | {"seeds": "a"}, younger | {"seeds": "b"})
    assert not same_data(OURS, {"data": "d"})  # one of them knows of no poison
    assert not same_data({"data": "d"}, OURS)


@pytest.mark.parametrize(
    "body",
    [b"", b"epoch\n1\n", b"epoch,poisoned_in_clean_pool\n1\n", b"\xff", b"a\n" + b"x" * 200_000,
     b"poisoned_in_clean_pool\nmany\n", b'"poisoned_in_clean_pool\n'],
)  # fmt: skip
def test_a_log_that_is_none_has_no_figure(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "log.csv").write_bytes(body)
    assert poisoned_at_the_end(RunFolder(tmp_path)) is None
    (tmp_path / "log.csv").write_text("epoch,poisoned_in_clean_pool\n0,5\n1,3\n")
    assert poisoned_at_the_end(RunFolder(tmp_path)) == 3
    (tmp_path / "log.csv").unlink()
    os.mkfifo(tmp_path / "log.csv")
    assert poisoned_at_the_end(RunFolder(tmp_path)) is None


@pytest.mark.parametrize("name", [5, None, "guilty", ["poisoned"], {}])
def test_a_verdict_that_is_none(tmp_path: Path, name: Any) -> None:
    folder = finished(tmp_path / "a", json.dumps(GOOD | {"verdict": name}).encode())
    assert read_verdict(folder / "result.json") is None
    assert exit_code(None) == 4


@pytest.mark.parametrize("body", [b"[" * 10_000, b"5", b"{}", b"\xff", b""])
def test_an_earlier_report_that_is_none(tmp_path: Path, body: bytes) -> None:
    (tmp_path / VERDICT_FILE).write_bytes(body)
    assert read_earlier(tmp_path) is None
    (tmp_path / VERDICT_FILE).unlink()
    os.mkfifo(tmp_path / VERDICT_FILE)
    assert read_earlier(tmp_path) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[" * 10_000, b"[]", b'{"seed": "1"}', b'{"seed": 1, "fingerprints": 3}',
     b'{"seed": -1, "fingerprints": {}}', b'{"seed": ' + b"1" * 4000 + b', "fingerprints": {}}'],
)  # fmt: skip
def test_a_manifest_that_is_none(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(body)
    with pytest.raises(InputError, match="train it"):
        RunFolder(tmp_path).read_manifest("train it")
    (tmp_path / "manifest.json").unlink()
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(InputError, match="no regular file"):
        RunFolder(tmp_path).read_manifest("train it")

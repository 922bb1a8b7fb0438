"""What a person writes into `suspects.csv` outlives the next report."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from report.suspects import ALWAYS, FILE_NAME, is_own, suspects, write_suspects
from tests.report.report_example import make_findings

Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def saved(path: Path, change: Callable[[Rows], Rows], separator: str = ",") -> None:
    """Save the table again, as a spreadsheet would."""
    rows = change(read(path))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


def marked(rows: Rows) -> Rows:
    said = {"3": ("poisoned", "a white square"), "5": ("clean", "")}
    empty = ("", "")
    return [
        row | dict(zip(("Verdict", "note"), said.get(row["index"], empty), strict=True)) | {"": ""}
        for row in reversed(rows)
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_of_a_person_stay_beside_their_samples(tmp_path: Path, separator: str) -> None:
    findings, path = make_findings(), tmp_path / FILE_NAME
    write_suspects(findings, tmp_path)
    saved(path, marked, separator)
    again = replace(findings, score=findings.score.flip(0))  # another order of samples
    for _ in range(2):  # and the next report after that
        assert write_suspects(again, tmp_path) == []
        rows = read(path)
        assert [row["rank"] for row in rows] == [str(n) for n in range(1, len(findings) + 1)]
        said = {row["index"]: (row["verdict"], row["note"]) for row in rows}
        assert said.pop("3") == ("poisoned", "a white square")
        assert said.pop("5") == ("clean", "")
        assert set(said.values()) == {("", "")}
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_a_table_without_marks_is_written_anew(tmp_path: Path) -> None:
    findings, path = make_findings(), tmp_path / FILE_NAME
    write_suspects(findings, tmp_path)
    before = path.read_bytes()
    saved(path, lambda rows: [row | {"verdict": " "} for row in rows])
    assert write_suspects(findings, tmp_path) == []
    assert path.read_bytes() == before


def other_samples(path: Path) -> None:
    saved(path, lambda rows: [row | {"verdict": "clean", "file": "gone.png"} for row in rows[:1]])


def no_table(path: Path) -> None:
    path.write_text('file,verdict\n"3,poisoned\n', encoding="utf-8")


def no_files(path: Path) -> None:
    path.write_text("my notes\n", encoding="utf-8")


@pytest.mark.parametrize("change", [other_samples, no_table, no_files])
def test_what_cannot_go_on_is_kept_aside(tmp_path: Path, change: Callable[[Path], None]) -> None:
    findings, path = make_findings(), tmp_path / FILE_NAME
    write_suspects(findings, tmp_path)
    own = path.read_bytes()
    for number in (1, 2):
        change(path)
        person = path.read_bytes()
        (line,) = write_suspects(findings, tmp_path)
        assert line.endswith(f"kept as suspects.{number}.csv")
        assert (tmp_path / f"suspects.{number}.csv").read_bytes() == person
        assert read(path)[0]["rank"] == "1"
    if change is not other_samples:  # those go on beside it
        assert path.read_bytes() == own


def test_every_column_of_the_report_is_known_as_its_own() -> None:
    row = suspects(make_findings())[0]
    assert all(is_own(column) for column in row)
    assert not any(is_own(column) for column in ("verdict", "note", "", "kept by"))
    assert len(set(ALWAYS)) == len(ALWAYS)

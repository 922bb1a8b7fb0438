"""The one reader of people's tables: separators, encodings, quotes; the writer's defused cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils import texts
from utils.cells import defuse, undo
from utils.errors import InputError
from utils.tables import read_table, table_text
from utils.texts import read_text

ROWS = {"train/a/Größe 1.png": "clean", "train/a, b; c\td.png": "poisoned"}


def saved(separator: str) -> str:
    quoted = "".join(f'"{name}"{separator}{verdict}\r\n' for name, verdict in ROWS.items())
    return f"File{separator} Verdict\r\n{quoted}"


def verdicts(file: Path, raw_names: bool = False) -> dict[str, str]:
    table = read_table(read_text(file, "review", raw_names), ("file", "verdict"))
    return {row.cells["file"]: row.cells["verdict"] for row in table.rows}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
@pytest.mark.parametrize("head", ["", "sep={}\r\n", '"SEP={}"\r\n'])
def test_what_spreadsheets_save_is_read(
    tmp_path: Path, separator: str, encoding: str, head: str
) -> None:
    file = tmp_path / "review.csv"
    file.write_bytes((head.format(separator) + saved(separator)).encode(encoding))
    assert verdicts(file) == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_three_ways_and_only_in_these(tmp_path: Path, end: str) -> None:
    file = tmp_path / "review.csv"
    odd = "a\u2028b\x0b\x85.png"
    body = end.join(["file,verdict", "", f"{odd},clean", ",,,", "b,"])
    file.write_bytes(body.encode())
    table = read_table(read_text(file, "review"), ("file", "verdict"))
    assert [(row.line, row.cells["file"]) for row in table.rows] == [(3, odd), (5, "b")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('file,verdict\n"a.png,clean\nb.png,poisoned\n', "line 2: no CSV: a quote"),
        ('file,verdict\na,clean\n"b"x,clean\n', "line 3: no CSV"),
        ('file,verdict,note\na,clean,"two\nb,poisoned,lines"\n', "line 2: no CSV: a quote"),
        ("file,verdict\na,b.png,clean\n", "line 2: 3 cells, but the first line names 2"),
        ("file,verdict,verdict\na,clean,poisoned\n", "two columns 'verdict'"),
        ("rank,verdict\n1,clean\n", "no column 'file'"),
        ("", "no column 'file'"),
        ("\n\n", "no column 'file'"),
        ('"file,rank";verdict\n"a,1";clean\n', "import it with commas"),
        ("sep=x\nfilexverdict\n", "line 1: the separator 'x' is none of commas"),
        ("file,verdict\n" + "a" * 140_000 + ",clean\n", "line 2: no CSV: field larger"),
        ("file,verdict\na\0b,clean\n", "holds a NUL"),
    ],
)
def test_what_is_no_table_is_told_with_its_line(tmp_path: Path, body: str, told: str) -> None:
    file = tmp_path / "review.csv"
    file.write_bytes(body.encode())
    with pytest.raises(InputError) as caught:
        verdicts(file)
    line = str(caught.value)
    assert told in line and line.startswith(f"review: {file}") and "\n" not in line


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\xef\xbb\xbffile,verdict\n\xff,clean\n", "UTF-8 (byte 13"),
        (b"\xff\xfef\0i\0l\0e\0,", "UTF-16-LE"),
        (b"file,verdict\n\x81,clean\n", "Windows-1252"),
    ],
)
def test_bytes_in_no_encoding_are_told_with_the_remedy(
    tmp_path: Path, body: bytes, told: str
) -> None:
    file = tmp_path / "review.csv"
    file.write_bytes(body)
    with pytest.raises(InputError, match="save it as CSV UTF-8") as caught:
        verdicts(file)
    assert told in str(caught.value)


def test_names_that_are_no_text_are_kept_where_the_set_has_such(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    file.write_bytes(b"file,verdict\n\xe9.png,clean\n")
    assert verdicts(file) == {"é.png": "clean"}
    assert verdicts(file, raw_names=True) == {"\udce9.png": "clean"}


def test_a_table_of_any_size_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "MOST_BYTES", 2**20)
    file = tmp_path / "review.csv"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        verdicts(file)


@pytest.mark.parametrize(
    "name",
    [
        '=HYPERLINK("http:evil","x")',
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "'=1",
        "''+1",
        "a;=1",
        "\uff1dx",
    ],
)
def test_formulas_are_defused_and_undone(tmp_path: Path, name: str) -> None:
    assert defuse(name) != name and undo(defuse(name)) == name
    assert all(not cell.startswith(tuple("=+-@")) for cell in defuse(name).split(";"))
    file = tmp_path / "suspects.csv"
    text = table_text(["file", "verdict"], [{"file": name, "verdict": "clean"}])
    file.write_bytes(text.encode())
    assert verdicts(file) == {name: "clean"}


@pytest.mark.parametrize("name", ["train/a=b.png", "o'clock", "'quoted'", "a-b", "5", ""])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert defuse(name) == name == undo(name)


def test_numbers_are_no_formulas() -> None:
    text = table_text(["file", "x"], [{"file": "a", "x": -0.5, "more": 1}, {"file": "b"}])
    assert text == "file,x\na,-0.5\nb,\n"

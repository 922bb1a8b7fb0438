"""What names may hold and a terminal must not obey."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ASD
import run_all
from tests.conftest import DIGITS
from utils.console import EpochTable, Lines, progress, quiet_libraries, say, say_error, table
from utils.printable import LONGEST_ERROR, clipped, printable

CASES = {
    "a\x1b[31mb": r"a\x1b[31mb",
    "a\nverdict: no sign of poison": r"a\nverdict: no sign of poison",
    "a\r\tb\x00\x7f\x9b": r"a\r\tb\x00\x7f\x9b",
    "\u202eevil\u2066": r"\u202eevil\u2066",
    "a\u2028b\u2029": r"a\u2028b\u2029",
    "caf\udce9": r"caf\xe9",
    "half\ud800": r"half\ud800",
    "\ufeff\u200b\U000e0041": r"\ufeff\u200b\U000e0041",
    "Größe 日本 👩\u200d🔬": "Größe 日本 👩\u200d🔬",
    r"C:\new": r"C:\new",
}


@pytest.mark.parametrize(("given", "seen"), CASES.items(), ids=range(len(CASES)))
def test_what_a_terminal_would_obey_is_written_out(
    given: str, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable(given) == seen
    say(given)
    say_error(given)
    out, err = capsys.readouterr()
    assert (out, err) == (f"{seen}\n", f"error: {seen}\n")


@given(st.text(st.characters()))
def test_a_line_stays_one_line_that_any_terminal_takes(text: str) -> None:
    line = printable(text)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    line.encode("utf-8")


@given(st.text(max_size=2000), st.integers(150, 400))
def test_a_clipped_line_keeps_its_ends(text: str, length: int) -> None:
    line = clipped(text, length)
    assert len(line) <= length
    assert line[:40] == text[:40]
    assert line[-90:] == text[-90:]
    assert line == text or len(text) > length


def test_cells_and_titles_of_tables_are_lines_and_the_table_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(table([{"run\x1b": "a\nb", "n": 1}, {"run\x1b": "c", "n": None}], headers="keys"))
    say(table([("x\ny", "\x1b")], headers=("a\nb", "c")))
    say(Lines("one\ntwo\x1b"))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("\n") == 4 + 3 + 2
    EpochTable().row({"stage\n": "a\x1bb"})
    assert capsys.readouterr().out.count("\n") == 2


def test_a_bar_has_a_printable_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress([1], "a\x1b[31m\nb", unit="step"):
        pass
    assert r"a\x1b[31m\nb" in terminal.getvalue()
    assert "\x1b[31m" not in terminal.getvalue()


def test_a_stream_of_another_encoding_gets_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    say("Größe 日本")
    stream.flush()
    assert stream.buffer.getvalue() == rb"Gr\xf6\xdfe \u65e5\u672c" + b"\n"  # type: ignore[attr-defined]


def test_errors_of_both_programs_are_one_short_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 1_000_000
    for argv in (
        ["--config", str(DIGITS), "--check", f"num_epochs={long}"],
        ["--config", str(DIGITS), "--check", f"{long}=1"],
        ["--config", str(DIGITS), "--check", "a\x1b[31m\nb=1"],
        ["--config", str(DIGITS), "--check", "caf\udce9=1"],
        [f"--{long}"],
        ["--gpu", long],
        ["--config", long],
        ["--name", long, "--config", str(DIGITS), "--check"],
    ):
        assert ASD.main(argv) == 2
        assert_short_line(capsys.readouterr().err)
    assert run_all.main([f"--{long}"]) == 2
    assert_short_line(capsys.readouterr().err)


def assert_short_line(err: str) -> None:
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert len(err) <= LONGEST_ERROR + 1
    assert err[:-1].isprintable()


def test_warnings_of_libraries_do_not_come_before_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: object) -> torch.Tensor:
        warnings.warn("of a library", UserWarning, stacklevel=1)
        return torch.zeros(1)

    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_libraries():
            warn()
        assert not caught
        monkeypatch.setattr(sys, "warnoptions", ["default"])  # python -W default
        with quiet_libraries():
            warn()
        assert len(caught) == 1

"""stdout and stderr that lead nowhere: no run dies of a line, and what was asked for is missed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

import ASD
from command.prediction import print_whole
from tests.command.cli_cases import CPU
from tests.conftest import TINY
from utils.console import say, say_error
from utils.errors import of_system
from utils.output import deliver, printed

FULL = Path("/dev/full")
WHERE = ["full disk", "closed terminal"]
REASONS = dict(zip(WHERE, ("No space left on device", "Input/output error"), strict=True))


def closed_terminal() -> int:
    """Return what is left of a terminal that somebody has closed."""
    master, own = os.openpty()
    os.close(master)
    return own


@pytest.fixture
def lost(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """A stream that cannot be written, and why."""
    if request.param == "full disk" and not FULL.exists():
        pytest.skip("this system has no /dev/full")
    descriptor = os.open(FULL, os.O_WRONLY) if request.param == "full disk" else closed_terminal()
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("write", [say, print_whole], ids=["say", "print_whole"])
@pytest.mark.parametrize(("lost", "reason"), REASONS.items(), indirect=["lost"], ids=WHERE)
def test_a_lost_line_is_told_once_and_ends_nothing(
    write: object,
    lost: TextIO,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert callable(write) and printed() == 0
    monkeypatch.setattr(sys, "stdout", lost)
    write("one")
    write("two")
    expected = f"error: stdout cannot be written ({reason}); nothing more is printed there\n"
    assert capsys.readouterr().err == expected
    assert printed() == 1


@pytest.mark.parametrize("lost", WHERE, indirect=True)
def test_an_error_that_cannot_be_told_raises_no_other(
    lost: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", lost)
    say_error("one")
    say_error("two")
    monkeypatch.setattr(sys, "stdout", lost)
    say("three")


def test_a_reader_who_has_seen_enough_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        say("one")
        assert (printed(), capsys.readouterr().err) == (0, "")


def test_a_process_without_streams_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("one")
    say_error("two")
    deliver(None, lambda file: pytest.fail("nothing to write to"))


@pytest.mark.parametrize("lost", WHERE, indirect=True)
def test_a_training_goes_on_without_its_lines(
    lost: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", lost)
    assert ASD.main([*CPU, *TINY, f"storage_dir={tmp_path}", "num_epochs=3"]) == 0
    assert (tmp_path / "digits" / "result.json").is_file()


@pytest.mark.parametrize("asked", ["--check", "--help"])
@pytest.mark.parametrize("lost", WHERE[:1], indirect=True)
def test_what_was_asked_for_on_stdout_is_missed(
    asked: str,
    lost: TextIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdout", lost)
    try:
        code = ASD.main([*CPU, *TINY, f"storage_dir={tmp_path}", asked])
    except SystemExit as end:  # argparse's way to end after the help
        code = int(end.code or 0)
    assert (code, capsys.readouterr().err.count("\n")) == (1, 1)


REMEDY = "Permission denied; make it accessible, or name another place"


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(ASD, "parse_arguments", refuse)
    assert ASD.main([]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: {REMEDY}\n"
    assert of_system(OSError("no number")) == "no number"
    full = OSError(errno.ENOSPC, "No space left on device", "/data/log.csv")
    told = "/data/log.csv: the disk is full (No space left on device); free a part of it"
    assert of_system(full) == told  # as where a file is written by the project itself

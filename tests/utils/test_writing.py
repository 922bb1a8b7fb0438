"""Files that appear whole or not at all, whoever else writes them, and whatever happens."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import run_together
from utils import files
from utils.errors import TrainingError


def save(file: Any) -> None:
    torch.save({"weights": torch.zeros(100_000)}, file)


def write_often(path: Path, letter: str) -> None:
    for _ in range(300):
        files.write_atomically(path, lambda file: file.write(letter.encode() * 5000))


def test_two_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "file"
    assert run_together(write_often, [(target, letter) for letter in "abc"]) == [0, 0, 0]
    assert target.read_bytes() in {letter.encode() * 5000 for letter in "abc"}
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "file", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_only_abandoned_temporary_files_are_swept(tmp_path: Path) -> None:
    for name, age in (("old", 2 * files.ABANDONED), ("new", 0.0)):
        left = tmp_path / f".file.{name}.partial"
        left.write_bytes(b"")
        os.utime(left, (left.stat().st_atime, left.stat().st_mtime - age))
    shutil.copy(tmp_path / ".file.old.partial", tmp_path / ".other.old.partial")
    os.utime(tmp_path / ".other.old.partial", (0, 0))
    files.write_text(tmp_path / "file", "x")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".file.new.partial", ".other.old.partial", "file"]


class Refused:
    """A file that the system takes nothing for."""

    def __init__(self, number: int) -> None:
        self.error = OSError(number, os.strerror(number))

    def write(self, content: bytes) -> int:
        raise self.error

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("write", [lambda file: file.write(b"x"), save], ids=["plain", "torch"])
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "the disk is full (No space left on device); free a part of it"),
        (errno.EROFS, "Read-only file system; make it accessible, or name another place"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_disk_refuses_is_told_once_with_what_to_do(
    tmp_path: Path, write: Callable[[Any], None], number: int, told: str
) -> None:
    """PyTorch says `unexpected pos 704 vs 598` of all of these."""
    path = tmp_path / "file"
    with pytest.raises(TrainingError) as caught:
        files.write_atomically(path, lambda _: write(Refused(number)))
    assert str(caught.value) == f"{path} could not be written: {told}"


def test_what_is_no_fault_of_the_disk_keeps_its_words(tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("two\nlines")

    with pytest.raises(TrainingError, match="could not be written: two lines"):
        files.write_atomically(tmp_path / "file", fail)

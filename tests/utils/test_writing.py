"""Files that appear whole or not at all, whoever else writes them, and whatever happens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_together
from utils import files


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

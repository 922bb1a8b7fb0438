"""Files that appear whole or not at all, whoever else writes them, and whatever happens."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from utils import files

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def write_often(path: Path, letter: str, failures: Any) -> None:
    try:
        for _ in range(30):
            files.write_atomically(path, lambda file: file.write(letter.encode() * 5000))
    except Exception as error:
        failures.put(repr(error))
    failures.put("")


def test_two_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    target = tmp_path / "file"
    writers = [
        context.Process(target=write_often, args=(target, letter, failures)) for letter in "abc"
    ]
    for writer in writers:
        writer.start()
    assert [failures.get(timeout=120) for _ in writers] == [""] * 3
    for writer in writers:
        writer.join()
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

"""C is translated once, kept, and never half; what hinders that is said in a line."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch

from tests.training.test_speed import narrow
from utils import native_code
from utils.engine import choose_engine
from utils.native_code import COMPILERS, load_library
from utils.speed import SpeedSettings
from utils.world import ALONE

TWICE = "int twice(int number) { return 2 * number; }\n"
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="there is no C compiler"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one C file; what is made of it is kept beside it."""
    monkeypatch.setattr(native_code, "CACHE", tmp_path / "cache")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "twice.c").write_text(TWICE)
    return tmp_path / "code"


def kept(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache").iterdir())


@needs_compiler
def test_a_library_is_made_once_and_anew_when_its_source_changes(folder: Path) -> None:
    assert load_library([folder], []).twice(21) == 42
    (first,) = kept(folder)
    written = first.stat().st_mtime_ns
    load_library([folder], [])
    assert [path.stat().st_mtime_ns for path in kept(folder)] == [written]
    (folder / "twice.c").write_text(TWICE.replace("2 *", "3 *"))
    assert load_library([folder], []).twice(21) == 63
    assert len(kept(folder)) == 2
    load_library([folder], ["-DANY"])
    assert len(kept(folder)) == 3


@needs_compiler
def test_what_cannot_be_translated_leaves_no_file_and_says_why(folder: Path) -> None:
    (folder / "twice.c").write_text("this is no C")
    with pytest.raises(OSError, match=r"twice\.c:1"):
        load_library([folder], [])
    assert not kept(folder)


def test_without_a_compiler_that_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_code, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(OSError, match="no C compiler"):
        load_library([folder], [])


@pytest.mark.parametrize(
    ("bf16", "probe", "kind"), [(True, "has_amx", "amx"), (False, "has_avx2_alone", "avx2")]
)
def test_an_engine_without_own_kernels_says_so(
    bf16: bool,
    probe: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def answer(found: str | ctypes.CDLL) -> None:
        monkeypatch.setattr("utils.engine.library", lambda kind: asked.append(kind) or found)

    def chosen() -> bool:
        return choose_engine(torch.device("cpu"), SpeedSettings(), narrow(16), ALONE).own_kernels

    monkeypatch.setattr("utils.engine.native_bf16", lambda _: bf16)
    monkeypatch.setattr(f"utils.engine.{probe}", lambda: True)
    answer("it rains")
    assert not chosen()
    assert "since it rains" in capsys.readouterr().out
    answer(ctypes.CDLL(None))
    assert chosen()
    assert not capsys.readouterr().out
    monkeypatch.setattr(f"utils.engine.{probe}", lambda: False)
    assert not chosen()
    assert not capsys.readouterr().out
    assert asked == [kind, kind]


@needs_compiler
def test_code_for_another_processor_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_code, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(native_code, "OPTIONS", {"other": ()})
    monkeypatch.setattr(native_code, "FOLDER", tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "probe.c").write_text("int refused(void) { return 1; }\n")
    native_code.library.cache_clear()
    assert native_code.library("other") == "processor or system give no OTHER"
    native_code.library.cache_clear()

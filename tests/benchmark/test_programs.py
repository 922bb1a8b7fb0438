"""Wrong input to any program beside `ASD.py` is one line and exit code 2, and nothing is lost."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from benchmark import pretrained
from data.dataset import gtsrb
from utils.errors import InputError, TrainingError
from utils.files import PROJECT
from utils.interrupt import Interrupted
from utils.program import run_program

DIGITS = str(PROJECT / "config" / "digits.yaml")
# By program, command lines that are wrong; {tmp} is a folder with the files of `folder`.
WRONG: dict[str, list[str]] = {
    "benchmark.calibrate": ["--scale nan", "--scale 0", "--out /dev/null/x", "--no"],
    "benchmark.first_gpu": ["--minutes soon", "--minutes -1", "--part tests", "--to {tmp}/x"],
    "benchmark.pretrained": [
        *("", "/dev/null/x", "{tmp}/file.json", "{tmp} --sets cifar", "{tmp} --starts imagenet0"),
        "{tmp}/new --data {tmp}/nothing --starts scratch",
    ],
    "benchmark.processor": ["nothing:3", "fastnet", "fastnet:x", "fastnet:0", "--repeats 0"],
    "benchmark.ready_models": ["--nothing", "nothing=3", "dataset_dir={tmp}/nothing"],
    "benchmark.scale": ["--largest 9", "--one resident", "--samples 3", "--one all --samples 3"],
    "benchmark.verdict_rates": [
        *("", "{tmp}", "{tmp} x", "{tmp}/nothing x", "{tmp} a/b", "{tmp}/broken x"),
        *("{tmp}/other x", "{tmp}/half x", "{tmp} x --seeds -1"),
    ],
    "benchmark.verdict_real": [
        *("", "/dev/null/x", "{tmp}/file.json", "{tmp} --seeds -1", "{tmp} --kinds nothing"),
        "{tmp}/new",
    ],
    "benchmark.witnesses": [
        *(
            "",
            "{tmp}/nothing.yaml",
            "{tmp}/file.json",
            f"{DIGITS} --seeds -1",
            f"{DIGITS} --gpu 77",
        ),
        *(f"{DIGITS} --json /dev/null/x/y", f"{DIGITS} --json {{tmp}}/file.json"),
        *(f"{DIGITS} --json {{tmp}}/text.json", f"{DIGITS} -- nothing=3"),
        f"{DIGITS} --witnesses nobody",
    ],
    "assets.draw_gallery": [
        *("", "nothing", "{tmp}/nothing.yaml", "badnets --samples 0", "dataset_dir={tmp}"),
        f"badnets --base {DIGITS} --out /dev/null/x",
    ],
    "assets.draw_pools": ["{tmp}/nothing.csv {tmp}/x.svg", "{tmp}/text.json {tmp}/x.svg"],
}
CASES = [(name, line) for name, lines in WRONG.items() for line in lines]


def programs() -> list[str]:
    """Return the modules of benchmarks and assets that are programs with a command line."""
    files = [*(PROJECT / "benchmark").glob("[!_]*.py"), *(PROJECT / "assets").glob("[!_]*.py")]
    texts = {f"{file.parent.name}.{file.stem}": file.read_text(encoding="utf-8") for file in files}
    return sorted(name for name, text in texts.items() if "sys.argv" in text or "def main(" in text)


def program(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are something else than what a program reads; nothing real is found or kept."""

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(CIFAR10, "download", offline)
    monkeypatch.setattr(gtsrb, "download_and_extract_archive", offline)
    monkeypatch.setattr(pretrained, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("ASD_DATA_DIR", str(tmp_path / "nothing"))
    (tmp_path / "file.json").write_text('{"cases": {"a": [3]}}')
    (tmp_path / "text.json").write_text("no table")
    for name, content in {"broken": None, "other": {}, "half": {"seed": 1}}.items():
        (tmp_path / name).mkdir()
        file = tmp_path / name / "a.npz"
        if content is None:
            file.write_bytes(b"PK\3\4")
        else:
            about = {"kind": "2 classes", **content}
            np.savez(file, about=json.dumps(about), labels=np.zeros(3))
    return tmp_path


def test_every_program_is_among_the_cases() -> None:
    assert programs() == sorted(WRONG)


@pytest.mark.parametrize(("name", "line"), CASES, ids=[f"{name} {line}" for name, line in CASES])
def test_wrong_input_is_one_line(
    name: str, line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {file: file.read_bytes() for file in folder.rglob("*.json")}
    words = line.format(tmp=folder).split()
    assert program(name).main(words) == InputError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert all(file.read_bytes() == content for file, content in kept.items())


def fails(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "told"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (fails(InputError("x: is wrong")), 2, "error: x: is wrong\n"),
        (fails(TrainingError("the disk is full")), 1, "error: the disk is full\n"),
        (
            fails(NotADirectoryError(20, "Not a directory", "/a/b")),
            2,
            "error: /a/b: Not a directory\n",
        ),
        (fails(OSError("odd")), 2, "error: odd\n"),
        (fails(Interrupted(2)), 130, ""),
    ],
)
def test_what_ends_a_program_is_its_exit_code(
    work: Callable[[], int], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_program(work) == code
    assert capsys.readouterr().err == told


def test_a_fault_of_the_program_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_program(fails(ZeroDivisionError()))

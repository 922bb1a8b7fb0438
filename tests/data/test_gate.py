"""What strangers' images and settings give through the real entry point: one line, exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ASD
from tests.conftest import DIGITS, TINY
from tests.data.pictures import HARMFUL, noise, save
from utils.files import PROJECT

OWN = PROJECT / "config" / "own_data.yaml"


def line(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a refused command."""
    code = ASD.main(arguments)
    err = capfd.readouterr().err
    assert code == 2, err
    assert err.count("\n") == 1 and "Traceback" not in err and len(err) <= 300, err
    return err


def attacked(tmp_path: Path, *overrides: str) -> list[str]:
    given = ["--config", str(DIGITS), "--gpu", "cpu", "--check", *TINY]
    return [*given, f"storage_dir={tmp_path / 's'}", *overrides]


@pytest.mark.parametrize(
    "override",
    [
        "backdoor={{badnets: {{trigger_path: {x}}}}}",
        "backdoor={{blend: {{image: {x}}}}}",
        "backdoor={{adaptive_blend: {{image: {x}}}}}",
        "backdoor={{refool: {{reflections: {folder}}}}}",
    ],
)
@pytest.mark.parametrize("kind", ["postscript", "huge", "text bomb", "pipe"])
def test_harmful_pictures_of_an_attack(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, override: str
) -> None:
    (tmp_path / "given").mkdir()
    HARMFUL[kind](tmp_path / "given" / "x.png")
    override = override.format(x=tmp_path / "given" / "x.png", folder=tmp_path / "given")
    assert "x.png" in line(capfd, *attacked(tmp_path, override))


@pytest.mark.parametrize(
    "override",
    [
        "backdoor.poison_ratio=0.0001",
        "backdoor.wanet.k=1000000000",
        "backdoor.refool.scenes=1000000000",
        "transform.pre={resize: {size: 0}}",
    ],
)
def test_numbers_without_sense(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], override: str
) -> None:
    assert "backdoor" in (found := line(capfd, *attacked(tmp_path, override))) or "size" in found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures in each of two classes."""
    for label, name in enumerate("ab"):
        for number in range(12):
            noise(tmp_path / "d" / "train" / name / f"{number}.png", 100 * label + number)
    return tmp_path / "d"


Change = Callable[[Path], Any]
FOLDERS: dict[str, tuple[Change, str]] = {
    "a line break": (lambda root: save(root / "train/a/evil.png\ntrain/b/1.png"), "control char"),
    "two spellings": (
        lambda root: [save(root / "train" / name / "0.png") for name in ("\u00e9", "e\u0301")],
        "two folders",
    ),
    "a pipe": (lambda root: HARMFUL["pipe"](root / "train/a/x.png"), "no regular file"),
    "a program": (lambda root: HARMFUL["postscript"](root / "train/a/x.png"), "no image of a"),
    "a bomb": (lambda root: HARMFUL["huge"](root / "train/a/x.png"), "decompression bomb"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_strangers(folder: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    change, part = FOLDERS[kind]
    change(folder)
    arguments = ["--config", str(OWN), "--gpu", "cpu", "--check", f"dataset_dir={folder}"]
    arguments += [f"storage_dir={folder.parent / 's'}", "data.image_size=16"]
    assert part in line(capfd, *arguments)


def test_what_looks_odd_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise(folder / "train/b/again.png", 0)
    noise(folder / "test/a/0.png", 0)
    noise(folder / "test/b/0.png", 999)
    (folder / "train/a/photo.heic").write_bytes(b"no format that is read")
    arguments = ["--config", str(OWN), "--gpu", "cpu", "--check", f"dataset_dir={folder}"]
    arguments += [f"storage_dir={folder.parent / 's'}", "data.image_size=16"]
    assert ASD.main(arguments) == 0
    out = capfd.readouterr().out
    assert "2 of 25 images lie in more than one class" in out
    assert "1 of 2 test images are training images" in out
    assert "1 file is left out" in out and "1 .heic" in out

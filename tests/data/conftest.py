"""Folders of pictures of every kind, and a count of what is decoded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data.dataset import cache
from data.dataset.decode import Frame, read_image
from tests.data.every_kind import (
    BROKEN,
    MAKERS,
    SIZES,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """200 files in two classes and their colours by file; eight more are no images."""
    root = tmp_path_factory.mktemp("data sets") / "Bilder von Ü"
    expected: dict[str, Any] = {}
    makers = list(MAKERS.items())
    for number in range(192):
        name, write = makers[number % len(makers)]
        split = "test" if number % 5 == 0 else "train"
        folder = root / split / ("日本 cats" if number % 3 == 0 else "a dog")
        folder.mkdir(parents=True, exist_ok=True)
        before = set(folder.iterdir())
        colour = write(folder / f"{number:03d} {name[:4]}", SIZES[number % len(SIZES)])
        (new,) = set(folder.iterdir()) - before
        expected[new.relative_to(root).as_posix()] = colour
    for name, broken in BROKEN.items():
        broken(root / "train" / "a dog" / name)
    for ignored in ("notes.txt", ".DS_Store", "._000.png", "list.csv"):
        (root / "train" / "a dog" / ignored).write_text("x")
    return root, expected


@pytest.fixture
def folder(original: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the 200 files that a test may change."""
    root = tmp_path / "copy"
    for split in ("train", "test"):
        for name in ("日本 cats", "a dog"):
            (root / split / name).mkdir(parents=True)
    for file in original[1]:
        os.link(original[0] / file, root / file)
    return root


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded, in no order."""
    seen: list[Path] = []

    def counting(path: Path, frame: Frame) -> Any:
        seen.append(path)
        return read_image(path, frame)

    monkeypatch.setattr(cache, "read_image", counting)
    return seen

"""The cache of decoded images: nothing in it is believed, and two writers do not meet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image

from data.dataset import ImageData, Request, cache
from data.dataset.decode import Frame, read_image
from data.dataset.image_folder import ImageFolder
from data.dataset.index import checksum
from data.dataset.settings import DataSection
from tests.data.pictures import noise
from tests.processes import run_together
from utils import files
from utils.errors import InputError, TrainingError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def load(root: Path, **given: Any) -> ImageData:
    section = DataSection(**{"image_size": 8, **given})
    return ImageFolder().load(Request(str(root), section, root.parent / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three pictures each, and one that is broken."""
    for label, name in enumerate("ab"):
        for number in range(3):
            noise(tmp_path / "d" / "train" / name / f"{number}.png", 10 * label + number)
    (tmp_path / "d/train/a/broken.png").write_bytes(b"no picture")
    return tmp_path / "d"


def cache_folder(root: Path) -> Path:
    """The folder of the training images' cache, which is the one with pixels."""
    places = (root.parent / "cache").iterdir()
    (found,) = (place for place in places if (place / cache.PIXELS).stat().st_size)
    return found


Change = Callable[[Path], object]


def index(**changes: Any) -> Change:
    """Return what gives the index other fields, and the checksum that belongs to them."""

    def change(place: Path) -> None:
        content = json.loads((place / cache.INDEX).read_text())
        content.pop("checksum")
        content |= changes
        whole = {**content, "checksum": checksum(content)}
        (place / cache.INDEX).write_text(json.dumps(whole))

    return change


def text(content: str) -> Change:
    return lambda place: (place / cache.INDEX).write_text(content)


def another_pixel(place: Path) -> None:
    """Change one byte; neither the size nor the time of the file tells."""
    path = place / cache.PIXELS
    before, whole = path.stat(), bytearray(path.read_bytes())
    whole[77] ^= 1
    path.write_bytes(whole)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def pipe(name: str) -> Change:
    def change(place: Path) -> None:
        (place / name).unlink()
        os.mkfifo(place / name)

    return change


TAMPERED: dict[str, Change] = {
    "one byte of a pixel": another_pixel,
    "no checksum": text(json.dumps({"fingerprint": "", "unreadable": [], "hashes": ""})),
    "a list": text("[]"),
    "a number": text("7"),
    "deeply nested": text("[" * 100_000),
    "an endless number": text('{"checksum": 1' + "0" * 10_000 + "}"),
    "no UTF-8": lambda place: (place / cache.INDEX).write_bytes(b"\xff\xfe{}"),
    "unreadable: a number": index(unreadable=3),
    "unreadable: triples": index(unreadable=[["a", "b", "c"]]),
    "unreadable: a stranger": index(unreadable=[["../../etc/passwd", "no image"]]),
    "unreadable: nothing": index(unreadable=[]),
    "unreadable: a reason that is none": index(unreadable=[["train/a/broken.png", {"a": 1}]]),
    "digest: another": index(digest="0" * 64),
    "digest: a list": index(digest=[1]),
    "hashes: none": index(hashes=""),
    "hashes: no hexadecimals": index(hashes="z" * 192),
    "hashes: a number": index(hashes=5),
    "fingerprint: null": index(fingerprint=None),
    "an index that is a pipe": pipe(cache.INDEX),
    "pixels that are a pipe": pipe(cache.PIXELS),
    "no pixels": lambda place: (place / cache.PIXELS).unlink(),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_changed_cache_is_made_anew(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(folder, skip_unreadable=True)
    images = before.train.images.clone()  # these are mapped from the file that is changed
    fingerprint = before.fingerprint()
    TAMPERED[kind](cache_folder(folder))
    decoded: list[Path] = []

    def counting(path: Path, frame: Frame) -> Any:
        decoded.append(path)
        return read_image(path, frame)

    monkeypatch.setattr(cache, "read_image", counting)
    after = load(folder, skip_unreadable=True)
    assert len(decoded) == 7
    assert torch.equal(after.train.images, images)
    assert after.train.files == before.train.files and after.notices == before.notices
    assert after.fingerprint() == fingerprint
    assert load(folder, skip_unreadable=True).fingerprint() == fingerprint
    assert len(decoded) == 7  # and the new one holds


def test_changed_pixels_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(folder, skip_unreadable=True)
    another_pixel(cache_folder(folder))
    load(folder, skip_unreadable=True)
    assert "was changed or is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("name", [cache.INDEX, cache.PIXELS, files.LOCK])
def test_a_folder_in_place_of_a_file_is_one_line(folder: Path, name: str) -> None:
    load(folder, skip_unreadable=True)
    place = cache_folder(folder)
    for taken in {name, cache.INDEX}:  # without its index the cache is to be written
        (place / taken).unlink()
    (place / name / "deep").mkdir(parents=True)
    with pytest.raises((InputError, TrainingError)) as caught:
        load(folder, skip_unreadable=True)
    assert str(place) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pipe_as_lock_does_not_hang(folder: Path) -> None:
    load(folder, skip_unreadable=True)
    pipe(files.LOCK)(cache_folder(folder))
    (cache_folder(folder) / cache.INDEX).unlink()
    # The lock of some systems may be a pipe; on others that is said.
    with suppress(InputError):
        assert len(load(folder, skip_unreadable=True).train) == 6


def test_a_cache_that_is_whole_needs_no_lock(folder: Path) -> None:
    """It may lie where this process may not write."""
    load(folder, skip_unreadable=True)
    with FileLock(cache_folder(folder) / files.LOCK):
        assert len(load(folder, skip_unreadable=True).train) == 6


def test_a_file_in_place_of_the_folder_is_one_line(folder: Path) -> None:
    (folder.parent / "cache").write_text("no folder")
    with pytest.raises(InputError, match=r"data\.cache_dir: .* cannot be written"):
        load(folder, skip_unreadable=True)


def test_what_a_killed_decoding_left_is_removed(folder: Path) -> None:
    load(folder, skip_unreadable=True)
    place = cache_folder(folder)
    (place / f".{cache.PIXELS}.1-0.partial").write_bytes(b"x" * 1000)
    (place / cache.INDEX).unlink()
    load(folder, skip_unreadable=True)
    assert sorted(path.name for path in place.iterdir()) == [cache.PIXELS, cache.INDEX, files.LOCK]


# ------------------------------------------------------------------------------- two processes


def decode(root: Path, told: Path) -> None:
    data = load(root, skip_unreadable=True)
    told.write_text(f"{data.fingerprint()} {len(data.train)}")


def test_processes_that_start_together_agree(folder: Path, tmp_path: Path) -> None:
    told = [tmp_path / f"told {number}" for number in range(3)]
    assert run_together(decode, [(folder, path) for path in told]) == [0, 0, 0]
    found = {path.read_text() for path in told}
    assert found == {f"{load(folder, skip_unreadable=True).fingerprint()} 6"}


def test_who_waits_for_a_lock_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(folder, skip_unreadable=True)
    other = FileLock(cache_folder(folder) / files.LOCK)
    other.acquire()
    (cache_folder(folder) / cache.INDEX).unlink()
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    monkeypatch.setattr(files, "say", lambda line: (print(line), other.release()))
    assert len(load(folder, skip_unreadable=True).train) == 6
    assert "another process writes it; waiting" in capsys.readouterr().out


# ---------------------------------------------------------------- images that are there twice


def same(data: ImageData, part: str) -> list[str]:
    return [line for line in data.notices if part in line]


def copy(folder: Path, source: str, target: str) -> None:
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / source, folder / target)


def test_the_same_image_in_two_classes_is_counted(folder: Path) -> None:
    assert not same(load(folder, skip_unreadable=True), "more than one class")
    copy(folder, "train/a/0.png", "train/b/9.png")
    copy(folder, "train/a/0.png", "train/b/8.png")
    copy(folder, "train/a/1.png", "train/a/9.png")  # in one class: only repeated
    for _ in range(2):  # decoded now, or found in the cache
        data = load(folder, skip_unreadable=True)
        (line,) = same(data, "more than one class")
        assert line.startswith("3 of 9 images lie in more than one class, pixel for pixel")
        assert line.endswith("'train/a/0.png' is 'train/b/8.png'")
        assert same(data, "3 of 9 images repeat an earlier one")


@pytest.mark.parametrize("names", [["a/0.png"], ["a/0.png", "a/1.png", "b/2.png"]])
def test_test_images_that_are_training_images_are_counted(folder: Path, names: list[str]) -> None:
    noise(folder / "test/b/99.png", 99)
    assert not same(load(folder, skip_unreadable=True), "test images are training images")
    for name in names:
        copy(folder, f"train/{name}", f"test/{name}")
    (line,) = same(load(folder, skip_unreadable=True), "test images are training images")
    assert line.startswith(f"{len(names)} of {len(names) + 1} test images")
    assert line.endswith("'test/a/0.png' is 'train/a/0.png'")


def test_another_format_of_the_same_pixels_is_the_same_image(folder: Path) -> None:
    (folder / "test/a").mkdir(parents=True)
    with Image.open(folder / "train/a/0.png") as image:
        image.save(folder / "test/a/renamed.bmp")
    assert same(load(folder, skip_unreadable=True), "1 of 1 test images are training images")

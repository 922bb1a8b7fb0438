"""Folders of images are decoded once, never half, and again where a file has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data.dataset import cache
from data.dataset.decode import Frame, read_image
from tests.data.every_kind import (
    load,
    refused,
)
from tests.processes import run_together


def test_the_second_start_decodes_nothing(
    folder: Path, tmp_path: Path, decodes: list[Path]
) -> None:
    first = load(folder, tmp_path / "cache")
    assert len(decodes) == 192
    second = load(folder, tmp_path / "cache")
    assert len(decodes) == 192
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    assert first.train.files == second.train.files
    assert first.fingerprint() == second.fingerprint()


def test_pixels_are_mapped_and_the_file_is_never_written(folder: Path, tmp_path: Path) -> None:
    data = load(folder, tmp_path / "cache")
    maps = Path("/proc/self/maps")
    if maps.exists():  # on Linux
        assert str(tmp_path / "cache") in maps.read_text()
    before = data.train.images.clone()
    data.train.images.zero_()
    assert torch.equal(load(folder, tmp_path / "cache").train.images, before)


@pytest.mark.parametrize("change", ["touched", "rewritten", "removed", "added"])
def test_a_changed_file_is_noticed(
    folder: Path, tmp_path: Path, decodes: list[Path], change: str
) -> None:
    before = load(folder, tmp_path / "cache")
    file = sorted((folder / "train" / "a dog").iterdir())[3]
    count = len(before.train)
    if change == "touched":
        os.utime(file, ns=(1, 1))
    elif change == "removed":
        file.unlink()
        count -= 1
    else:
        target = file.with_name("new.png") if change == "added" else file
        count += change == "added"
        target.unlink(missing_ok=True)  # the file is a hard link to another test's
        Image.new("RGB", (5, 5), (1, 2, 3)).save(target, format="PNG")
    decodes.clear()
    after = load(folder, tmp_path / "cache")
    assert len(decodes) == len(after.train) == count  # the test images are not decoded again
    assert (after.fingerprint() == before.fingerprint()) == (change == "touched")
    assert len(list((tmp_path / "cache").iterdir())) == 2  # no old cache is left


def test_every_setting_has_a_cache_of_its_own(
    folder: Path, tmp_path: Path, decodes: list[Path]
) -> None:
    choice = tmp_path / "classes.txt"
    choice.write_text("日本 cats\na dog\n", encoding="utf-8")
    variants: list[dict[str, Any]] = [{}, {"image_size": 9}, {"resize": 12}]
    variants.append({"classes": str(choice)})
    first = [load(folder, tmp_path / "cache", **variant) for variant in variants]
    assert len(decodes) == 192 * len(variants)
    for data, variant in zip(first, variants, strict=True):
        assert load(folder, tmp_path / "cache", **variant).fingerprint() == data.fingerprint()
    assert len(decodes) == 192 * len(variants)
    assert len(list((tmp_path / "cache").iterdir())) == 2 * len(variants)
    assert first[1].train.images.shape[1:] == (9, 9, 3)
    assert first[3].classes == ("日本 cats", "a dog")


def test_the_fingerprint_is_that_of_the_pixels(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    for file in (tmp_path / "elsewhere").rglob("*.*"):
        os.utime(file, ns=(5, 5))
    here = load(folder, tmp_path / "cache")
    there = load(tmp_path / "elsewhere", tmp_path / "cache")
    assert here.fingerprint() == there.fingerprint()


@pytest.mark.parametrize("damage", ["shorter", "index", "format"])
def test_a_damaged_cache_is_made_anew(
    folder: Path, tmp_path: Path, decodes: list[Path], damage: str
) -> None:
    before = load(folder, tmp_path / "cache")
    for place in (tmp_path / "cache").iterdir():
        if damage == "shorter":
            pixels = (place / cache.PIXELS).read_bytes()
            (place / cache.PIXELS).unlink()
            (place / cache.PIXELS).write_bytes(pixels[:-1])
        elif damage == "index":
            (place / cache.INDEX).write_text("{")
        else:
            index = json.loads((place / cache.INDEX).read_text())
            (place / cache.INDEX).write_text(json.dumps({**index, "unknown": 1}))
    decodes.clear()
    assert torch.equal(load(folder, tmp_path / "cache").train.images, before.train.images)
    assert len(decodes) == 192


def decode_until_killed(folder: Path, cache_folder: Path) -> None:
    """Decode 50 files of the second split, then die without a chance to tidy up."""
    count = 0

    def deadly(path: Path, frame: Frame) -> Any:
        nonlocal count
        count += path.parts[-3] == "test"
        if count == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_image(path, frame)

    cache.read_image = deadly  # type: ignore[assignment]
    cache.CHUNK = 8
    load(folder, cache_folder)


def test_a_killed_decoding_leaves_nothing_that_looks_whole(
    folder: Path, tmp_path: Path, decodes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CHUNK", 8)
    killed = run_together(decode_until_killed, [(folder, tmp_path / "cache")])
    assert killed == [-signal.SIGKILL]
    assert len(list((tmp_path / "cache").glob(f"*/{cache.INDEX}"))) == 1  # of the training images
    data = load(folder, tmp_path / "cache")
    assert {path.parts[-3] for path in decodes} == {"test"}
    assert torch.equal(data.test.images, load(folder, tmp_path / "another").test.images)


def test_a_kill_between_pixels_and_index(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of a changed set and the old index must not be taken for the old set."""
    file = sorted((folder / "train" / "a dog").iterdir())[0]
    kept = tmp_path / "kept"
    before = load(folder, tmp_path / "cache")
    shutil.copy2(file, kept)
    file.unlink()
    Image.new("RGB", (5, 5), (9, 9, 9)).save(file, format="PNG")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_index", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            load(folder, tmp_path / "cache")
    shutil.copy2(kept, file)  # the old file with its old time
    assert torch.equal(load(folder, tmp_path / "cache").train.images, before.train.images)


def test_a_full_disk_is_said_before_the_work(
    folder: Path, tmp_path: Path, decodes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    assert "data.cache_dir" in refused(folder, tmp_path / "cache")
    assert decodes == []


def test_a_cache_folder_that_cannot_be_made(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "data.cache_dir" in refused(folder, tmp_path / "file")

"""Pictures of every format and mode: the right colours, upright, in a square, in little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from data.attack.pixels import read_picture
from data.dataset import decode, picture
from data.dataset.decode import Frame, read_image
from data.dataset.picture import UnreadableImage
from tests.data.every_kind import (
    BROKEN,
    COLOUR,
    load,
    refused,
)
from tests.data.pictures import png
from utils.errors import InputError


def test_200_files_have_the_right_classes_and_colours(
    original: tuple[Path, dict[str, Any]], tmp_path: Path, decodes: list[Path]
) -> None:
    root, expected = original
    message = refused(root, tmp_path)
    assert "8 of 200 images cannot be read" in message
    for name in list(BROKEN)[:3]:
        assert f"train/a dog/{name}" in message
    assert "header.png" not in message
    assert "data.skip_unreadable=true" in message
    assert len(decodes) == 200

    data = load(root, tmp_path, skip_unreadable=True)
    assert len(decodes) == 200  # the error was found without losing what was decoded
    assert data.classes == ("a dog", "日本 cats")
    for name in BROKEN:
        assert any(f"train/a dog/{name}" in line for line in data.notices)
    files = {}
    for split in (data.train, data.test):
        assert split.files is not None
        assert len(split.files) == len(split.images) == len(split.labels)
        assert split.images.dtype == torch.uint8
        for file, image, label in zip(split.files, split.images, split.labels, strict=True):
            assert data.classes[int(label)] == Path(file).parent.name
            files[file] = image
    assert files.keys() == expected.keys()
    for file, colour in expected.items():
        difference = (files[file].int() - torch.tensor(colour)).abs().max()
        assert difference <= (3 if file.lower().endswith(("jpg", "jpeg")) else 1), (file, colour)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, ending: str, orientation: int) -> None:
    quadrants = np.zeros((24, 16, 3), dtype=np.uint8)
    quadrants[:12, :8], quadrants[:12, 8:], quadrants[12:, :8] = 255, (255, 0, 0), (0, 0, 255)
    upright = Image.fromarray(quadrants)
    # 90 degrees one way is undone the other way; all else undoes itself.
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = upright if inverse is None else upright.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a{ending}", exif=exif)
    found = read_image(tmp_path / f"a{ending}", Frame(8)).astype(int)
    wanted = Frame(8).cut(upright).astype(int)
    for row, column in ((1, 1), (1, 6), (6, 1), (6, 6)):
        assert np.abs(found[row, column] - wanted[row, column]).max() < 40, (row, column)


sides = st.integers(1, 70)


@settings(max_examples=60)
@given(sides, sides, st.integers(8, 20), st.integers(0, 12))
def test_the_square_is_torchvisions(width: int, height: int, size: int, margin: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    reference = v2.CenterCrop(size)(v2.Resize(size + margin)(image))
    found = Frame(size, size + margin).cut(image).astype(int)
    assert np.abs(found - np.asarray(reference).astype(int)).max() <= 1


def test_long_images_need_no_memory_and_bombs_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 1), COLOUR).save(tmp_path / "long.png")
    assert (read_image(tmp_path / "long.png", Frame(8, 256)) == COLOUR).all()
    BROKEN["bomb.png"](tmp_path / "bomb.png")
    with pytest.raises(UnreadableImage, match=r"400000000 pixels.*decompression bomb"):
        read_image(tmp_path / "bomb.png", Frame(8))


@pytest.mark.parametrize(("width", "height"), [(2**21, 1), (1, 2**21), (170_000_000, 1)])
def test_no_side_is_so_long(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "x.png").write_bytes(png(width, height))
    for read in (lambda path: read_image(path, Frame(8)), scaled):
        with pytest.raises((UnreadableImage, InputError), match="decompression bomb"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("margin", [None, 12])
def test_the_order_of_scaling_changes_no_more_than_rounding(
    monkeypatch: pytest.MonkeyPatch, margin: int | None
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (4000, 3, 3), dtype=np.uint8)
    image, frame = Image.fromarray(noise), Frame(8, margin)
    rows_first = frame.cut(image).astype(int)
    monkeypatch.setattr(picture, "MANY_PIXELS", 100)
    columns_first = frame.cut(image).astype(int)
    assert np.abs(rows_first - columns_first).max() <= 1
    assert len(np.unique(columns_first)) > 10


def test_a_long_picture_takes_little_memory_on_its_way(tmp_path: Path) -> None:
    Image.new("RGB", (1, 2**20), COLOUR).save(tmp_path / "long.png")
    sizes = []

    def noting(self: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        sizes.append(size)
        return real(self, size, *rest)

    real = Image.Image.resize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", noting)
        assert (read_image(tmp_path / "long.png", Frame(256)) == COLOUR).all()
    assert sizes == [(1, 256), (256, 256)]


def scaled(path: Path) -> object:
    return read_picture(str(path), "backdoor.blend.image", 16, 16)


def test_large_images_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "MANY_PIXELS", 50)
    Image.new("RGB", (9, 9), COLOUR).save(tmp_path / "a.png")
    held = []
    real = decode.to_rgb
    monkeypatch.setattr(
        decode, "to_rgb", lambda image: held.append(picture.one_at_a_time.locked()) or real(image)
    )
    read_image(tmp_path / "a.png", Frame(8))
    assert held == [True]
    assert not picture.one_at_a_time.locked()

"""Folders of images: every format and mode in the right colours, decoded once, never half."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from config.load import load_config
from data.build import load_data
from data.dataset import ImageData, Request, cache, decode, picture
from data.dataset.decode import Frame, read_image
from data.dataset.image_folder import ImageFolder, listed_classes
from data.dataset.picture import UnreadableImage
from data.dataset.settings import DataSection
from tests.conftest import DIGITS
from utils.errors import InputError
from utils.files import PROJECT

COLOUR = (200, 40, 120)
GREY = 90
SIZE = 8

Maker = Callable[[Path, tuple[int, int]], tuple[int, int, int]]
MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    """Register a function that writes an image of one colour and returns the colour in RGB."""
    MAKERS[function.__name__] = function
    return function


def plain(mode: str, ending: str, colour: Any, expected: tuple[int, int, int]) -> None:
    def write(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
        options = {"lossless": True} if ending == ".webp" else {}
        Image.new(mode, size, colour).save(path.with_suffix(ending), **options)
        return expected

    MAKERS[f"{mode}{ending}"] = write


for ending in (".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm", ".JPEG"):
    plain("RGB", ending, COLOUR, COLOUR)
for ending in (".png", ".jpg", ".bmp", ".tif", ".pgm", ".gif"):
    plain("L", ending, GREY, (GREY,) * 3)
for ending in (".png", ".tif", ".bmp"):
    plain("1", ending, 1, (255,) * 3)
for ending in (".jpg", ".tif"):
    plain("CMYK", ending, (55, 215, 135, 0), COLOUR)
for ending in (".png", ".tif"):
    plain("I;16", ending, GREY * 257, (GREY,) * 3)
plain("RGBA", ".png", (*COLOUR, 255), COLOUR)
plain("RGBA", ".webp", (*COLOUR, 0), (255,) * 3)
plain("RGBA", ".tif", (100, 0, 200, 51), (224, 204, 244))  # a fifth of it, on white
plain("LA", ".png", (0, 102), (153,) * 3)


@maker
def palette(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    image = Image.new("P", size, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(path.with_suffix(".png"))
    return COLOUR


@maker
def palette_gif(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    image = Image.new("P", size, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(path.with_suffix(".gif"))
    return COLOUR


@maker
def transparent_palette(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    image = Image.new("P", size, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(path.with_suffix(".png"), transparency=1)
    return (255, 255, 255)


@maker
def transparent_colour(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    Image.new("RGB", size, COLOUR).save(path.with_suffix(".png"), transparency=COLOUR)
    return (255, 255, 255)


@maker
def sixteen_bit_colour(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    header = f"P6 {size[0]} {size[1]} 65535\n".encode()
    pixel = struct.pack(">HHH", *(value * 257 for value in COLOUR))
    path.with_suffix(".ppm").write_bytes(header + pixel * (size[0] * size[1]))
    return COLOUR


@maker
def wrong_ending(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    Image.new("RGB", size, COLOUR).save(path.with_suffix(".jpg"), format="PNG")
    return COLOUR


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG of any size, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(chunk))
    header = struct.pack(">I", len(chunk) - 4) + chunk + checksum
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 999) + b"IDAT"


def truncated_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:600])


def floating_tiff(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)


BROKEN: dict[str, Callable[[Path], object]] = {
    "bomb.png": lambda path: path.write_bytes(png_header(20_000, 20_000)),
    "cut off.jpg": truncated_jpeg,
    "empty.png": lambda path: path.write_bytes(b""),
    "float.tif": floating_tiff,
    "header.png": lambda path: path.write_bytes(png_header(9, 9)),
    "nowhere.png": lambda path: path.symlink_to("missing.png"),
    "pipe.png": os.mkfifo,
    "text.jpg": lambda path: path.write_text("not an image"),
}
SIZES = [(9, 9), (1, 1), (13, 7), (8, 30), (40, 41)]


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


def load(root: Path, cache_folder: Path, **given: Any) -> ImageData:
    section = DataSection(**{"image_size": SIZE, **given})
    return ImageFolder().load(Request(str(root), section, cache_folder))


def refused(root: Path, cache_folder: Path, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(root, cache_folder, **given)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded, in no order."""
    seen: list[Path] = []

    def counting(path: Path, frame: Frame) -> Any:
        seen.append(path)
        return read_image(path, frame)

    monkeypatch.setattr(cache, "read_image", counting)
    return seen


# -------------------------------------------------------------------------- classes and colours


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


# ------------------------------------------------------------------------------------- the cache


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
    load(folder, cache_folder)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_decoding_leaves_nothing_that_looks_whole(
    folder: Path, tmp_path: Path, decodes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CHUNK", 8)
    victim = multiprocessing.get_context("fork").Process(
        target=decode_until_killed, args=(folder, tmp_path / "cache")
    )
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
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


# ------------------------------------------------------------------------------------- the layout


def put(root: Path, *files: str, colour: tuple[int, int, int] = COLOUR) -> None:
    for n, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (*colour[:2], n)).save(root / file)


def test_class_folders_alone_are_a_training_set(tmp_path: Path) -> None:
    put(tmp_path / "d", "b/1.png", "b/2.png", "a/sub folder/3.png", ".hidden/4.png")
    data = load(tmp_path / "d", tmp_path / "cache")
    assert data.classes == ("a", "b")
    assert data.train.files == ("a/sub folder/3.png", "b/1.png", "b/2.png")
    assert data.train.labels.tolist() == [0, 1, 1]  # a class of one beside a class of two
    assert data.test.images.shape == (0, SIZE, SIZE, 3)
    assert data.test.labels.shape == (0,)
    assert any("there are no test images" in line for line in data.notices)
    data.fingerprint()


def test_links_are_not_followed_and_cannot_hang(tmp_path: Path) -> None:
    root = tmp_path / "d"
    put(root, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    (root / "train/a/loop").symlink_to(root)
    (root / "train/c").symlink_to(root / "train/a")
    shutil.move(root / "test/b", root / "elsewhere")
    (root / "test/b").symlink_to(root / "elsewhere")
    (root / "train/b/linked.png").symlink_to(root / "train/a/1.png")  # a file: it counts
    data = load(root, tmp_path / "cache")
    assert data.classes == ("a", "b")
    assert data.train.files == ("train/a/1.png", "train/b/1.png", "train/b/linked.png")
    assert data.test.files == ("test/a/1.png",)
    for link in ("train/a/loop", "train/c", "test/b"):
        assert any(f"{root / link} is a link" in line for line in data.notices)


def test_repeated_images_are_kept_and_said(tmp_path: Path) -> None:
    put(tmp_path / "d", "train/a/1.png", "train/b/1.png", "train/b/2.png")
    shutil.copy(tmp_path / "d/train/a/1.png", tmp_path / "d/train/b/3.png")
    data = load(tmp_path / "d", tmp_path / "cache")
    assert len(data.train) == 4
    lines = [line for line in data.notices if "repeat" in line]
    assert lines == [
        "1 of 4 images repeat an earlier one (they are kept): 'train/b/3.png' is 'train/a/1.png'"
    ]


@pytest.mark.parametrize(
    ("files", "part"),
    [
        (["train/a/1.png"], "two classes or more, only 'a'"),
        (["1.png"], "two classes or more, none"),
        (["test/a/1.png", "test/b/1.png"], "has test/ and no train/"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "test/c belongs to no class"),
        (["train/a/1.png", "train/b/../1.png"], "1 of 2 classes have no readable image"),
    ],
)
def test_a_folder_that_is_no_data_set(tmp_path: Path, files: list[str], part: str) -> None:
    for file in files:
        (tmp_path / "d" / file).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / "d", file)
    assert part in refused(tmp_path / "d", tmp_path / "cache")


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "nothing", tmp_path / "cache")
    with pytest.raises(InputError, match="dataset_dir: missing"):
        ImageFolder().load(Request(None, DataSection(), tmp_path))


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "d", "train/a/1.png", "train/b/1.png", "train/b/deep/1.png")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "b/deep cannot be read (Permission denied)" in refused(tmp_path / "d", tmp_path / "c")


def test_a_class_without_test_images_is_said(tmp_path: Path) -> None:
    put(tmp_path / "d", "train/a/1.png", "train/b/1.png", "test/b/1.png")
    notices = load(tmp_path / "d", tmp_path / "cache").notices
    assert "1 of 2 classes have no test image, 'a' among them" in notices


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a\nbb\n", "no folder 'bb'"),
        ("a\nb\na\n", "'a' is named twice"),
        ("a\n", "only 'a'"),
        ("# nothing\n", "none"),
    ],
)
def test_a_class_list_that_does_not_fit(tmp_path: Path, text: str, part: str) -> None:
    put(tmp_path / "d", "train/a/1.png", "train/b/1.png")
    (tmp_path / "classes.txt").write_text(text)
    message = refused(tmp_path / "d", tmp_path / "cache", classes=str(tmp_path / "classes.txt"))
    assert part in message


def test_a_class_list_chooses_and_orders(tmp_path: Path) -> None:
    put(tmp_path / "d", *(f"{split}/{name}/1.png" for split in ("train", "test") for name in "xyz"))
    put(tmp_path / "d", "train/ze\u0301ro/1.png", "test/strange/1.png")  # e and an accent
    text = "# two of four\nz\u00e9ro  # composed\n\n x \n"
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    data = load(tmp_path / "d", tmp_path / "cache", classes=str(tmp_path / "classes.txt"))
    assert data.classes == ("ze\u0301ro", "x")
    assert data.train.files == ("train/ze\u0301ro/1.png", "train/x/1.png")
    assert data.test.files == ("test/x/1.png",)


def test_the_committed_list_names_30_classes_of_imagenet() -> None:
    file = PROJECT / "config" / "imagenet30" / "classes.txt"
    present = [line.split()[0] for line in file.read_text().splitlines()[1:]]
    assert listed_classes(file, present, Path("train")) == present
    assert len(present) == 30
    assert all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in present)


def test_through_the_configuration(folder: Path, tmp_path: Path) -> None:
    overrides = ["dataset=image_folder", f"dataset_dir={folder}", f"storage_dir={tmp_path / 's'}"]
    overrides += ["num_classes=null", f"data.image_size={SIZE}", "data.train_samples=6"]
    data, notices = load_data(load_config(DIGITS, overrides).config)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.files is not None
    assert [Path(file).parent.name for file in data.train.files] == ["a dog"] * 3 + [
        "日本 cats"
    ] * 3
    assert list(data.notices) == notices
    assert (tmp_path / "s" / "cache" / "images").is_dir()
    pre, _ = load_data(
        load_config(DIGITS, [*overrides, "transform.pre={resize: {size: 4}}"]).config
    )
    assert pre.train.images.shape == (6, 4, 4, 3)
    assert pre.train.files == data.train.files
    assert pre.train.digest is None

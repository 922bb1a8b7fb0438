"""Pictures that strangers made: what is read, what is left out, and what may never happen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from config.load import load_config
from data.attack.badnets import read_trigger
from data.attack.pixels import read_picture
from data.attack.reflection import read_scenes
from data.build import load_data
from data.dataset import ImageData, Request, picture
from data.dataset.decode import Frame, read_image
from data.dataset.image_folder import ImageFolder
from data.dataset.picture import FORMATS, UnreadableImage
from data.dataset.settings import DataSection
from tests.conftest import DIGITS
from tests.data import pictures
from tests.data.pictures import COLOUR, HARMFUL, save
from utils.errors import InputError, TrainingError


def load(root: Path, **given: Any) -> ImageData:
    section = DataSection(**{"image_size": 8, **given})
    return ImageFolder().load(Request(str(root), section, root.parent / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of one picture each."""
    for name in "ab":
        save(tmp_path / "d" / "train" / name / "0.png")
    return tmp_path / "d"


# --------------------------------------------------------------------------- what is read (B1)


@pytest.mark.parametrize("ending", pictures.FORMATS)
def test_every_format_is_read_whatever_the_ending(folder: Path, ending: str) -> None:
    save(folder / "train/a" / f"1{ending}")
    data = load(folder)
    assert data.train.files == ("train/a/0.png", f"train/a/1{ending}", "train/b/0.png")
    assert np.abs(data.train.images[1].numpy().astype(int) - COLOUR).max() <= 4
    assert not [line for line in data.notices if "left out" in line]


def test_what_is_left_out_is_counted_by_its_ending(folder: Path) -> None:
    for name in ("1.heic", "2.HEIC", "3.svg", "notes", "BMW.txt", "P6.txt", ".hidden", "._0.png"):
        (folder / "train/a" / name).write_bytes(b"BM is no picture, and neither is P6")
    save(folder / "test/a/0.png", (1, 2, 3))
    (folder / "test/a/list.csv").write_text("file,label\n")
    lines = [line for line in load(folder).notices if "left out" in line]
    assert lines == [
        "7 files are left out: they are no images of a format that is read here "
        "(2 .heic, 2 .txt, 1 without ending, 1 .csv, 1 .svg)"
    ]


def test_pictures_beside_the_class_folders_are_counted(folder: Path) -> None:
    save(folder / "train/lost.png")
    save(folder / "train/another.jpg")
    save(folder / "test/a/0.png", (1, 2, 3))
    save(folder / "test/0.webp")
    (folder / "train/list.csv").write_text("no picture\n")
    lines = [line for line in load(folder).notices if "outside" in line]
    assert lines == [
        f"{folder / 'train'} holds 2 pictures outside of its class folders, which are left out: "
        f"'another.jpg'",
        f"{folder / 'test'} holds 1 pictures outside of its class folders, which are left out: "
        f"'0.webp'",
    ]


def test_an_ending_that_would_break_the_line_is_escaped(folder: Path) -> None:
    (folder / "train/a/x.\x1b[31m").write_text("no picture")
    (line,) = [line for line in load(folder).notices if "left out" in line]
    assert line.isprintable()


def test_a_broken_picture_with_a_known_ending_is_not_left_out(folder: Path) -> None:
    (folder / "train/a/1.j2k").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1 of 3 images cannot be read: 'train/a/1\.j2k'"):
        load(folder)


# -------------------------------------------------------------------- what may never happen (C2)


def test_no_format_starts_a_program_or_opens_another_file() -> None:
    assert not {"EPS", "WMF", "IPTC", "PDF", "MPEG", "GRIB", "HDF5", "BUFR"} & set(FORMATS)
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN) | {"AVIF"}  # a slip of the pen would read nothing


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", start)


def trigger(path: Path) -> object:
    return read_trigger(str(path), 16, 16)


def blended(path: Path) -> object:
    return read_picture(str(path), "backdoor.blend.image", 16, 16)


def reflected(path: Path) -> object:
    return read_scenes(str(path.parent), 5, 16, 16, "backdoor.refool.reflections")


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("open_it", [trigger, blended, reflected])
@pytest.mark.parametrize("kind", HARMFUL)
def test_a_harmful_file_in_a_setting_is_one_line(
    tmp_path: Path, kind: str, open_it: Callable[[Path], object], recwarn: Any
) -> None:
    HARMFUL[kind](tmp_path / "x.png")
    with pytest.raises(InputError, match=r"^backdoor\.\w+\.\w+: ") as caught:
        open_it(tmp_path / "x.png")
    message = str(caught.value)
    assert "x.png" in message
    assert "\n" not in message and len(message) < 300
    assert not recwarn.list


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("name", ["x.png", "x.unknown", "x", "x.tga"])
@pytest.mark.parametrize("kind", [kind for kind in HARMFUL if kind != "folder"])
def test_a_harmful_training_image_is_never_read(folder: Path, kind: str, name: str) -> None:
    HARMFUL[kind](folder / "train/a" / name)
    data = load(folder, skip_unreadable=True)
    assert len(data.train) == 2
    assert any(name in line or "left out" in line for line in data.notices)


def test_too_little_memory_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", full)
    with pytest.raises(TrainingError, match=r"a/0\.png: too little memory to decode it"):
        load(folder)


def test_a_limit_that_somebody_lifted_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(picture, "MOST_PIXELS", 100)
    with pytest.raises(UnreadableImage, match="16x16: 256 pixels, a decompression bomb"):
        read_image(save(tmp_path / "x.png"), Frame(8))


# -------------------------------------------------------------------------------- names (B4, D4)

PLACES = ["train/a/0{}1.png", "train/a{}/0.png", "train/a/{}/0.png", "test/a/{}.png"]
BREAKING = ["\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("character", BREAKING)
@pytest.mark.parametrize(
    "place", ["train/a/0{}1.png", "train/a{}/0.png", "train/a/{}/0.png", "test/a/{}.png"]
)
def test_names_that_would_break_a_list_are_refused(
    folder: Path, character: str, place: str
) -> None:
    save(folder / place.format(character))
    save(folder / "train" / Path(place.format(character)).parts[1] / "9.png")
    with pytest.raises(InputError, match="holds a control character") as caught:
        load(folder)
    assert str(caught.value).isprintable()


def test_a_name_of_two_lines_cannot_stand_for_two_samples(folder: Path) -> None:
    """`purified.txt` would get the lines `evil.png` and `train/a/0.png`, two other samples."""
    save(folder / "train/a/evil.png\ntrain/a/0.png")
    with pytest.raises(InputError, match=r"evil\.png\\ntrain"):
        load(folder)


def test_names_that_are_only_unusual_are_taken(folder: Path) -> None:
    names = ["a b.png", "=1+1.png", "\u200dzwj.png", "日本.png", "quote'\".png", "-rf.png"]
    for name in names:
        save(folder / "train/a" / name)
    assert len(load(folder).train) == 2 + len(names)


def test_a_name_that_is_no_utf8_is_taken_and_cached(folder: Path) -> None:
    save(folder / "train/a" / "caf\udce9.png")
    first, second = load(folder), load(folder)
    assert first.train.files == second.train.files
    assert "train/a/caf\udce9.png" in (first.train.files or ())


def test_two_spellings_of_one_class_are_said_at_once(folder: Path) -> None:
    for name in ("\u00e9", "e\u0301"):
        save(folder / "train" / name / "0.png")
    with pytest.raises(InputError, match="two folders called") as caught:
        load(folder)
    assert r"'\xe9'" in str(caught.value) and r"'e\u0301'" in str(caught.value)
    overrides = ["dataset=image_folder", f"dataset_dir={folder}", "num_classes=null"]
    overrides.append(f"storage_dir={folder.parent / 's'}")
    with pytest.raises(InputError, match="two folders called"):
        load_data(load_config(DIGITS, overrides).config)


@pytest.mark.parametrize("other", ["a ", " a", "a\u3000"])
def test_two_classes_of_one_name_but_for_blanks_are_refused(folder: Path, other: str) -> None:
    save(folder / "train" / other / "0.png")
    with pytest.raises(InputError, match="two folders called 'a' but for blanks"):
        load(folder)


@pytest.mark.parametrize("other", ["A", "\uff41"])
def test_classes_that_look_alike_are_said(folder: Path, other: str) -> None:
    save(folder / "train" / other / "0.png")
    lines = [line for line in load(folder).notices if "look alike" in line]
    assert len(lines) == 1 and repr(other) in lines[0]

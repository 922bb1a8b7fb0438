"""Folders of images: which files are samples, of which class, and what is said of the rest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from data.build import load_data
from data.dataset import Request
from data.dataset.image_folder import ImageFolder, listed_classes
from data.dataset.settings import DataSection
from tests.conftest import DIGITS
from tests.data.every_kind import (
    SIZE,
    load,
    put,
    refused,
)
from utils.errors import InputError
from utils.files import PROJECT


def test_class_folders_alone_are_a_training_set(tmp_path: Path) -> None:
    put(
        tmp_path / "d",
        "b/1.png",
        "b/2.png",
        "a/sub folder/3.png",
        ".hidden/4.png",
        "__MACOSX/5.png",
    )
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_list_of_classes_is_read_as_it_was_saved(tmp_path: Path, encoding: str) -> None:
    names = ["Kühe", "a"]
    (tmp_path / "classes.txt").write_bytes("Kühe\r\na # the rest\r\n".encode(encoding))
    assert listed_classes(tmp_path / "classes.txt", names, tmp_path) == names

"""Data sets by name: CIFAR-100 and GTSRB in their authors' layouts, and what they may be told."""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from config.load import load_config
from data.build import load_data
from data.dataset import DATASETS, ImageData, Request, gtsrb
from data.dataset.cifar100 import Cifar100
from data.dataset.settings import DataSection
from tests.broken_downloads import BROKEN
from tests.conftest import tiny_config
from utils.errors import InputError
from utils.files import PROJECT


def load(name: str, folder: Path | str | None, cache: Path, **settings: Any) -> ImageData:
    source = DATASETS.get(name)()
    return source.load(Request(folder and str(folder), DataSection(**settings), cache))


def offline(*_: object, **__: object) -> None:
    raise URLError("no network")


# ----------------------------------------------------------------------------------- CIFAR-100


def write_cifar_batch(path: Path, content: dict[str, Any]) -> str:
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def small_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    """Six images of CIFAR-100's format; returns their pixels as (6, 32, 32, 3)."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    planes = pixels.transpose(0, 3, 1, 2).reshape(6, -1)
    batch = {"data": planes, "fine_labels": [99, 0, 3, 3, 7, 1], "coarse_labels": [0] * 6}
    names = {"fine_label_names": [f"fine {n}" for n in range(100)]}
    md5 = write_cifar_batch(folder / "train", batch)
    write_cifar_batch(folder / "test", batch)
    meta = {**CIFAR100.meta, "md5": write_cifar_batch(folder / "meta", names)}

    class Small(CIFAR100):  # type: ignore[misc]
        train_list = [["train", md5]]  # noqa: RUF012 (as in torchvision)
        test_list = [["test", md5]]  # noqa: RUF012
        meta: dict[str, str]

    Small.meta = meta
    monkeypatch.setattr(Cifar100, "archive", Small)
    return pixels


@pytest.mark.parametrize("inside", ["", "cifar-100-python"])
def test_cifar100_has_its_fine_labels(
    small_cifar100: np.ndarray[Any, Any], tmp_path: Path, inside: str
) -> None:
    data = load("cifar100", tmp_path / inside, tmp_path)
    assert data.num_classes == 100
    assert data.train.labels.tolist() == [99, 0, 3, 3, 7, 1]
    assert data.classes[99] == "fine 99"
    assert np.array_equal(data.train.images.numpy(), small_cifar100)
    assert data.train.images.is_contiguous()


@pytest.mark.parametrize(("name", "title"), [("cifar10", "CIFAR-10 "), ("cifar100", "CIFAR-100 ")])
def test_absent_cifar_names_its_archive(
    name: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(InputError, match=rf"{title}.*python\.tar\.gz and unpack it there"):
        load(name, tmp_path, tmp_path)
    with pytest.raises(InputError, match="dataset_dir: missing"):
        load(name, None, tmp_path)


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "gtsrb"])
def test_a_download_that_breaks_is_one_line_and_leaves_no_folder(
    name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        (tmp_path / "new" / "gtsrb").mkdir(parents=True, exist_ok=True)
        raise error

    monkeypatch.setattr(CIFAR10, "download", broken)
    monkeypatch.setattr(gtsrb, "download_and_extract_archive", broken)
    with pytest.raises(
        InputError, match=r"could not be downloaded \(.+\); get https.* there$"
    ) as e:
        load(name, tmp_path / "new", tmp_path)
    assert "\n" not in str(e.value)
    assert name != "gtsrb" or not (tmp_path / "new").exists()


# --------------------------------------------------------------------------------------- GTSRB


def write_gtsrb(root: Path, training: str) -> None:
    """Two training images a class and ten test images; pixel values tell label and number."""
    for label in range(43):
        folder = root / training / f"{label:05d}"
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (20 + label, 40), (label, number, 9)).save(
                folder / f"0000{number}_00000.ppm"
            )
        (folder / f"GT-{label:05d}.csv").write_text("Filename;Width\n")
    tests = root / gtsrb.TEST_FOLDER
    tests.mkdir(parents=True)
    with open(root / gtsrb.LABELS_FILE, "w") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["Filename", "Width", "ClassId"])
        for number in range(10):
            Image.new("RGB", (33, 31), (number, 0, 0)).save(tests / f"{number:05d}.ppm")
            table.writerow([f"{number:05d}.ppm", 33, 42 - number])


@pytest.fixture
def small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gtsrb, "TRAINING_COUNT", 86)
    monkeypatch.setattr(gtsrb, "TEST_COUNT", 10)
    monkeypatch.setattr(gtsrb, "download_and_extract_archive", offline)


@pytest.mark.usefixtures("small_counts")
@pytest.mark.parametrize("training", gtsrb.TRAINING_FOLDERS)
@pytest.mark.parametrize("inside", ["", "gtsrb"])
def test_gtsrb_in_both_layouts(tmp_path: Path, training: str, inside: str) -> None:
    write_gtsrb(tmp_path / "gtsrb", training)
    data = load("gtsrb", tmp_path / inside, tmp_path / "cache", image_size=24)
    assert data.train.images.shape == (86, 24, 24, 3)
    assert data.train.labels.tolist() == [label for label in range(43) for _ in range(2)]
    assert torch.equal(data.train.images[:, 5, 5, 0].long(), data.train.labels)
    assert data.train.images[:, 0, 0, 1].tolist() == [0, 1] * 43
    assert data.test.labels.tolist() == list(range(42, 32, -1))
    assert data.test.images[:, 0, 0, 0].tolist() == list(range(10))
    assert data.train.files is not None
    assert data.train.files[3] == f"{training}/00001/00001_00000.ppm"
    assert len(set(data.classes)) == 43
    assert data.classes[14] == "stop"
    assert data.notices == ()


@pytest.mark.usefixtures("small_counts")
def test_gtsrb_that_is_absent_or_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"sid\.erda\.dk.*/GTSRB_Final_Training_Images\.zip and"):
        load("gtsrb", tmp_path, tmp_path)
    write_gtsrb(tmp_path / "gtsrb", "GTSRB/Training")
    monkeypatch.setattr(gtsrb, "TEST_COUNT", 11)
    with pytest.raises(InputError, match=r"10 images, not 11.*Final_Test_Images\.zip"):
        load("gtsrb", tmp_path, tmp_path)
    monkeypatch.setattr(gtsrb, "TRAINING_COUNT", 87)
    with pytest.raises(InputError, match="86 images, not 87"):
        load("gtsrb", tmp_path, tmp_path)


@pytest.mark.usefixtures("small_counts")
def test_torchvisions_smaller_gtsrb_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gtsrb, "TRAINING_COUNT", 99)
    monkeypatch.setattr(gtsrb, "REDUCED_COUNT", 86)
    write_gtsrb(tmp_path / "gtsrb", "GTSRB/Training")
    data = load("gtsrb", tmp_path, tmp_path / "cache")
    assert len(data.notices) == 1
    assert gtsrb.TRAINING[0] in data.notices[0]


def test_real_gtsrb(tmp_path: Path) -> None:
    folder = os.environ.get("ASD_DATA_DIR")
    if not folder:
        pytest.skip("ASD_DATA_DIR does not name a folder with the real GTSRB")
    if not (Path(folder) / "gtsrb").is_dir():
        pytest.skip(f"ASD_DATA_DIR={folder} has no gtsrb")
    path = PROJECT / "config" / "gtsrb" / "badnets.yaml"
    overrides = [f"dataset_dir={folder}", f"storage_dir={tmp_path}"]
    data, notices = load_data(load_config(path, overrides).config)
    assert (len(data.train), len(data.test), data.num_classes) == (39_209, 12_630, 43)
    assert notices == []
    assert data.train.images.shape[1:] == (32, 32, 3)
    counts = torch.bincount(data.train.labels)
    assert (counts[0], counts[3], counts.min()) == (210, 1410, 210)
    assert int((data.test.labels == 3).sum()) == 450
    assert data.train.files is not None
    assert data.train.files[0].endswith("00000/00000_00000.ppm")
    with Image.open(Path(folder) / "gtsrb" / data.train.files[777]) as image:
        assert image.size == (32, 32)
        assert np.array_equal(np.array(image), data.train.images[777].numpy())


# ------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize("override", ["data.image_size=16", "data.classes=a.txt"])
def test_a_key_that_a_set_does_not_read_is_refused(override: str) -> None:
    with pytest.raises(InputError, match=r"data\.\w+ means nothing to dataset digits"):
        load_data(tiny_config(override).config)


def test_a_crop_larger_than_the_scaled_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.resize and data\.image_size contradict"):
        tiny_config("data.image_size=64", "data.resize=48")
    with pytest.raises(InputError, match="20 pixels do not hold a square of 32"):
        tiny_config("data.resize=20")

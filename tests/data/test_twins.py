"""Images that are there twice: what measures ACC is never, unsaid, what was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config.load import load_config
from data.build import Material, assemble, load_data
from data.twins import pixel_hashes
from tests.data.pictures import noise, save
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams

OWN = PROJECT / "config" / "own_data.yaml"
CHECKED = 9  # verified images a class: three of them are held out


def material(root: Path, *overrides: str) -> Material:
    given = ["data.image_size=16", f"dataset_dir={root}", f"storage_dir={root.parent / 'storage'}"]
    config = load_config(OWN, [*given, *overrides]).config
    return assemble(config, load_data(config)[0], Streams(3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training images of each of two classes, and nine others that a person has checked."""
    for label, name in enumerate("ab"):
        for number in range(12):
            noise(tmp_path / "d" / "train" / name / f"{number}.png", 100 * label + number)
        for number in range(CHECKED):
            noise(tmp_path / "d" / "seeds" / name / f"{number}.png", 1000 + 100 * label + number)
    return tmp_path / "d"


def trained_and_tested(found: Material) -> tuple[set[bytes], set[bytes]]:
    return set(pixel_hashes(found.data.train)), set(pixel_hashes(found.data.test))


def copies(root: Path, count: int = CHECKED) -> None:
    """Put copies of verified images among the training images, under other names."""
    for name in "ab":
        for number in range(count):
            shutil.copy(
                root / f"seeds/{name}/{number}.png", root / f"train/{name}/copy{number}.png"
            )
            shutil.copy(
                root / f"seeds/{name}/{number}.png", root / f"train/{name}/again{number}.png"
            )


def listed_copies(root: Path, count: int) -> str:
    """Put copies among the training images, and let a list name them as the verified ones."""
    copies(root, count)
    shutil.rmtree(root / "seeds")
    names = [
        f"train/{name}/{kind}{n}.png"
        for name in "ab"
        for n in range(count)
        for kind in ("copy", "again")
    ]
    (root.parent / "list.txt").write_text("\n".join(names))
    return f"global.seed_indices={root.parent / 'list.txt'}"


def test_nothing_leaves_where_nothing_is_twice(folder: Path) -> None:
    found = material(folder)
    assert len(found.data.train) == 24 + 12 and len(found.data.test) == 6
    assert not [line for line in found.lines if "pixel for pixel" in line]


def test_twins_of_held_out_samples_leave_training(folder: Path) -> None:
    copies(folder)
    found = material(folder)
    trained, tested = trained_and_tested(found)
    assert len(tested) == len(found.data.test) == 6
    assert not trained & tested
    # Both copies of each image that is held out; one of them was the verified sample itself.
    (line,) = [line for line in found.lines if "leave training with them" in line]
    assert line.startswith("6 training images are held-out ones, pixel for pixel")
    assert len(found.training) == len(found.data.train) == 24 + 36 - 12
    assert found.training.files is not None
    assert len(found.seeds) == 12
    assert all(int(found.training.labels[seed]) in (0, 1) for seed in found.seeds)


def test_twins_among_listed_samples_are_held_out_once(folder: Path) -> None:
    """A list may name both copies: then neither of them may be trained on and tested on."""
    found = material(folder, listed_copies(folder, 6))
    trained, tested = trained_and_tested(found)
    assert len(tested) == len(found.data.test) == 4  # a third of six pictures a class
    assert not trained & tested
    assert len(found.seeds) == 2 * 6 * 2 - 2 * 4


def test_enough_pictures_remain_as_seeds(folder: Path) -> None:
    listed = listed_copies(folder, 4)
    found = material(folder, listed, "global.seed_num=4")
    assert len(found.data.test) == 0  # all four pictures of a class are wanted as seeds
    assert len(found.seeds) == 16
    assert any("ACC is not measured" in line for line in found.lines)
    assert len(material(folder, listed, "global.seed_num=3").data.test) == 2


@pytest.mark.parametrize("count", [1, CHECKED])
def test_test_images_that_are_verified_are_counted(folder: Path, count: int) -> None:
    noise(folder / "test/a/other.png", 5000)
    noise(folder / "test/b/other.png", 5001)
    assert not [line for line in material(folder).lines if "test images are verified" in line]
    for number in range(count):
        shutil.copy(folder / f"seeds/b/{number}.png", folder / f"test/b/{number}.png")
    (line,) = [line for line in material(folder).lines if "test images are verified" in line]
    assert line.startswith(f"{count} of {count + 2} test images")


def test_a_test_set_that_is_the_training_set_is_said(folder: Path) -> None:
    shutil.copytree(folder / "train", folder / "test")
    (line,) = [line for line in material(folder).data.notices if "test images are training" in line]
    assert line.startswith("24 of 24 test images are training images")


def test_what_is_left_out_of_the_verified_images_is_said(folder: Path) -> None:
    (folder / "seeds/a/phone.heic").write_bytes(b"no format that is read")
    (line,) = [line for line in material(folder).lines if "left out" in line]
    assert line.startswith(f"{folder / 'seeds'}: 1 file is left out") and "1 .heic" in line


def test_a_verified_file_with_a_line_break_is_refused(folder: Path) -> None:
    save(folder / "seeds/a/1\n2.png")
    with pytest.raises(InputError, match="holds a control character"):
        material(folder)

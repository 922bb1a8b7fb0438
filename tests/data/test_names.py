"""Paths of other tools and of people: each means one sample, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.home import Home
from data.names import Names
from data.poison import TrainingSet

ROOT = Path("/data/my_data")
BELOW_TRAIN = ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "seeds/dog/9.png")
BARE = ("cat/1.png", "cat/2.png", "dog/1.png", "cat/deep/7.png")


def names_of(
    files: tuple[str, ...] | None, home: Home | None = None, left_out: tuple[str, ...] = ()
) -> Names:
    count = 4 if files is None else len(files)
    images = torch.zeros(count, 1, 1, 3, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    return Names(TrainingSet(images, labels, ("cat", "dog"), files=files, home=home), left_out)


BELOW = names_of(BELOW_TRAIN, Home(ROOT, Path("/checked")), ("train/cat/broken.png",))


@pytest.mark.parametrize(
    ("path", "sample"),
    [
        ("train/cat/2.png", 1),
        ("cat/2.png", 1),
        ("train\\cat\\2.png", 1),
        ("cat\\2.png", 1),
        ("C:\\pictures\\train\\cat\\2.png", 1),
        ("/data/my_data/train/cat/2.png", 1),
        ("/elsewhere/train/cat/2.png", 1),
        ("my_data/train/cat/2", 1),
        ("cat/2", 1),
        ("data/2.png", 1),
        ("data/2", 1),
        ("/checked/dog/9.png", 3),
        ("/elsewhere/train/cat/broken.png", 4),
        ("data/1.png", None),  # two are called so
        ("data/1-2.png", None),  # what FiftyOne makes of the second of them
        ("data/2-2.png", None),
        ("2.png", None),
        ("/home/x/data/2.png", None),
        ("/data/my_data/test/cat/1.png", None),
        ("my_data/seeds/cat/2.png", None),
        ("my_data/triggered/cat/2.png", None),
        ("test/cat/1.png", None),
        ("test\\cat\\1.png", None),
        ("/home/x/other_project/cat/2.png", None),
        ("other/cat/2", None),
        ("/data/my_data/seeds/dog/9.png", 3),
        ("", None),
    ],
)
def test_a_path_of_a_set_with_a_folder_for_training(path: str, sample: int | None) -> None:
    assert BELOW.by_path(path) == sample


@pytest.mark.parametrize(
    ("path", "sample"),
    [
        ("cat/2.png", 1),
        ("cat\\2.png", 1),
        ("/cat/2.png", 1),
        ("cat/2", 1),
        ("/data/my_data/cat/2.png", 1),
        ("/mounted/my_data/cat/2.png", 1),
        ("my_data/cat/2", 1),
        ("my_data/cat/deep/7.png", 3),
        ("deep/7.png", None),
        ("my_data/seeds/cat/2.png", None),
        ("/data/my_data/triggered/cat/2.png", None),
        ("/home/x/other_project/cat/2.png", None),
        ("train/cat/2.png", None),
        ("my_data/cat/deep/1.png", None),
    ],
)
def test_a_path_of_bare_class_folders(path: str, sample: int | None) -> None:
    assert names_of(BARE, Home(ROOT)).by_path(path) == sample


def test_a_set_that_is_called_as_a_sibling_is_known_by_its_whole_path_alone() -> None:
    names = names_of(BARE, Home(Path("/data/test")))
    assert names.by_path("/data/test/cat/2.png") == 1
    assert names.by_path("/other/test/cat/2.png") is None


def test_a_name_as_it_is_wins() -> None:
    names = names_of(("train/cat/a", "train/cat/a.png", "train/cat\\b.png", "train/cat/b.png"))
    assert names.by_path("train/cat/a") == 0
    assert names.by_path("/x/train/cat/a") is None  # the one, or the other without its ending
    assert names.by_path("/x/train/cat/a.png") == 1
    assert names.by_path("train/cat\\b.png") == 2


@pytest.mark.parametrize("files", [None, ("cat/x.png", "cat/3.png", "cat/y.png", "cat/z.png")])
def test_images_of_an_export_go_by_its_names(files: tuple[str, ...] | None) -> None:
    """An attack of our own is in no file: tools are given the folder of `--export`."""
    names = names_of(files)
    assert names.by_path("/exported/train/cat/2.png") == 2
    assert names.by_path("/exported/test/cat/2.png") is None
    assert names.by_path("data/2") == 2


def test_a_path_that_is_one_sample_here_and_another_one_exported_is_none() -> None:
    names = names_of(("train/cat/3.png", "train/cat/1.png", "train/cat/x.png", "train/cat/y.png"))
    assert names.by_path("/somewhere/train/cat/3.png") is None
    assert names.by_path("/somewhere/train/cat/1.png") == 1
    assert names.by_path("train/cat/3.png") == 0  # as it stands in suspects.csv

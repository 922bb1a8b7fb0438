"""What the program keeps, beside and among the images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ASD
from config.load import load_config
from data.apart import refuse_among_images, refuse_own_folders_among_images
from tests.data.own_data_cases import CLASSES, OWN, folder, make_folder  # noqa: F401 (fixture)
from utils.errors import InputError

KEYS = ("storage_dir", "data.cache_dir")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Class folders without `train/`."""
    return make_folder(tmp_path, per_class=3, beside="bare") / "bare"


def judge(root: Path, *overrides: str) -> str:
    """Return what is said of where the program writes to; nothing where that is fine."""
    outside = [f"{key}={root.parent / 'elsewhere'}" for key in KEYS]
    config = load_config(OWN, [f"dataset_dir={root}", *outside, *overrides]).config
    try:
        refuse_own_folders_among_images(config)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", KEYS)
def test_a_place_among_the_class_folders_is_refused(folder: Path, bare: Path, key: str) -> None:
    inside = ("train", "train/new", f"train/{CLASSES[0]}", f"train/{CLASSES[0]}/a/b", "test/a",
              "seeds/a", "triggered/a")  # fmt: skip
    for place in inside:
        assert judge(folder, f"{key}={folder / place}").startswith(f"{key}: "), place
    for place in (".", "storage", f"{CLASSES[1]}/storage", "seeds/a", "a/../b"):
        assert judge(bare, f"{key}={bare / place}").startswith(f"{key}: "), place
    seeds = folder.parent / "checked"
    assert key in judge(folder, f"global.seed_dir={seeds}", f"{key}={seeds / 'storage'}")


@pytest.mark.parametrize("key", KEYS)
def test_a_place_that_is_not_listed_is_fine(folder: Path, bare: Path, key: str) -> None:
    for place in (".", "storage", "trainer", ".."):
        assert judge(folder, f"{key}={folder / place}") == "", place
    for place in ("..", ".storage", f"{CLASSES[0]}/.hidden/a", "../bare2"):
        assert judge(bare, f"{key}={bare / place}") == "", place


def test_a_list_of_classes_leaves_the_others_out(bare: Path) -> None:
    classes = bare.parent / "classes.txt"
    classes.write_text("".join(f"{name}\n" for name in CLASSES[:2]), encoding="utf-8")
    chosen = f"data.classes={classes}"
    for place in ("storage", f"{CLASSES[2]}/storage", "."):
        assert judge(bare, chosen, f"storage_dir={bare / place}") == "", place
    assert judge(bare, chosen, f"storage_dir={bare / CLASSES[1] / 'storage'}") != ""


def test_links_are_followed_to_where_they_lead(bare: Path) -> None:
    (bare / "out").symlink_to(bare.parent, target_is_directory=True)
    (bare.parent / "in").symlink_to(bare, target_is_directory=True)
    assert judge(bare, f"storage_dir={bare / 'out' / 'storage'}") == ""
    assert judge(bare, f"storage_dir={bare.parent / 'in' / 'storage'}") != ""


def test_the_gate_is_there_for_whatever_else_is_written(bare: Path) -> None:
    config = load_config(OWN, [f"dataset_dir={bare}"]).config
    refuse_among_images(bare.parent / "model.onnx", "--export-onnx", config)
    with pytest.raises(InputError, match="--export-onnx"):
        refuse_among_images(bare / CLASSES[0] / "model.onnx", "--export-onnx", config)


def test_other_data_sets_have_no_class_folders(tmp_path: Path) -> None:
    given = ["dataset=digits", "data.image_size=null", f"dataset_dir={tmp_path}"]
    config = load_config(OWN, [*given, f"storage_dir={tmp_path / 'train'}"]).config
    refuse_own_folders_among_images(config)


@pytest.mark.parametrize("more", [[], ["--check"], ["--export", "../out"]])
def test_nothing_is_written_by_a_run_that_is_refused(
    bare: Path, more: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bare)
    before = sorted(os.walk(bare.parent))
    given = ["--config", str(OWN), "--gpu", "cpu", *more, "dataset_dir=."]
    assert ASD.main(given) == 2  # the default is ./storage
    assert "storage_dir: storage lies in" in capsys.readouterr().err
    assert sorted(os.walk(bare.parent)) == before


def test_a_run_named_like_a_folder_of_images_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.walk(folder))
    given = [f"dataset_dir={folder}", f"storage_dir={folder}"]  # train/ is there, storage is not
    assert ASD.main(["--config", str(OWN), "--gpu", "cpu", "--name", "train", *given]) == 2
    assert f"--name: {folder / 'train'} lies in" in capsys.readouterr().err
    assert sorted(os.walk(folder)) == before

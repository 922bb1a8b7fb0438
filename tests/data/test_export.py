"""The exported training set: what is on the disk is what the defender would train on."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ASD
from assets import draw_gallery
from data.build import load_data, poison_data
from data.dataset import Split
from data.export import (
    COLUMNS,
    GREY,
    difference,
    export,
    file_names,
    folder_names,
)
from data.export import draw_gallery as draw_changed
from data.poison import Role, TrainingSet, Truth
from tests.conftest import DIGITS, TINY, colourful_images, tiny_config
from utils.errors import TrainingError
from utils.streams import Streams


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open() as file:
        return list(csv.DictReader(file))


def read_png(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return torch.from_numpy(np.array(image))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What `--export` wrote for 300 digits, and the storage folder of the run that was not made."""
    storage, folder = tmp_path_factory.mktemp("storage"), tmp_path_factory.mktemp("out") / "new"
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}"]
    assert ASD.main([*arguments, "--export", str(folder)]) == 0
    return folder, storage


def test_the_files_are_the_poisoned_training_set(exported: tuple[Path, Path]) -> None:
    folder, _ = exported
    config = tiny_config().config
    data, _ = load_data(config)
    assert config.seed.seed is not None
    training, truth = poison_data(config, data, Streams(config.seed.seed))
    rows = rows_of(folder)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(list(folder.rglob("train/*/*.png"))) == len(training) == 300
    for index, row in enumerate(rows):
        name = training.classes[training.labels[index]]
        assert row["file"] == f"train/{name}/{index:03}.png"
        assert torch.equal(read_png(folder / row["file"]), training.images[index])
        assert row["given_label"] == name
        assert row["original_label"] == training.classes[truth.original_labels[index]]
        assert row["kind"] == ("poisoned" if truth.poisoned[index] else "clean")
    assert sum(row["kind"] == "poisoned" for row in rows) == 15


def test_the_gallery_shows_before_and_after(exported: tuple[Path, Path]) -> None:
    sheet = read_png(exported[0] / "gallery.png")
    assert sheet.shape[0] > 6 * 160
    assert sheet.shape[1] > 3 * 160


def test_nothing_but_the_export_is_made(exported: tuple[Path, Path]) -> None:
    folder, storage = exported
    assert list(storage.iterdir()) == []
    found = {path.name for path in folder.iterdir()}
    assert found == {"train", "test", "triggered", "classes.txt", "index.csv", "gallery.png"}


@pytest.mark.parametrize("taken", ["file inside", "is a file"])
def test_a_folder_that_holds_something_is_refused(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    inside = folder / "mine.txt" if taken == "file inside" else folder
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.write_text("mine")
    assert ASD.main(["--config", str(DIGITS), "--gpu", "cpu", "--export", str(folder)]) == 2
    message = capsys.readouterr().err
    assert f"--export {folder}" in message
    assert message.count("\n") == 1
    assert inside.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_a_seed_the_set_would_be_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(DIGITS), "seed.seed=null", "--export", str(tmp_path / "out")]
    assert ASD.main(given) == 2
    assert "seed.seed" in capsys.readouterr().err


def small_set() -> tuple[torch.Tensor, TrainingSet, Truth]:
    """Return the clean images, and a set with samples of all three kinds."""
    clean = colourful_images(12, 8)
    changed = clean.clone()
    changed[4:8] += 1  # wraps at 255
    roles = torch.tensor([Role.CLEAN] * 4 + [Role.POISONED] * 3 + [Role.CROSS] + [Role.CLEAN] * 4)
    original = torch.arange(12) % 3
    given_labels = torch.where(roles == Role.POISONED, 2, original)
    truth = Truth(roles.to(torch.uint8), original, Split(clean, original), None)
    return clean, TrainingSet(changed, given_labels, ("a/b", "a_b", "c")), truth


def test_every_kind_is_told(tmp_path: Path) -> None:
    clean, training, truth = small_set()
    export(clean, training, truth, tmp_path)
    rows = rows_of(tmp_path)
    assert [row["kind"] for row in rows] == (
        ["clean"] * 4 + ["poisoned"] * 3 + ["cross"] + ["clean"] * 4
    )
    assert [row["given_label"] for row in rows[4:8]] == ["c", "c", "c", "a_b_1"]
    assert [row["original_label"] for row in rows[4:8]] == ["a_b_1", "c", "a_b", "a_b_1"]
    for row, image in zip(rows, training.images, strict=True):
        assert torch.equal(read_png(tmp_path / row["file"]), image)


def test_a_clean_set_has_no_gallery(tmp_path: Path) -> None:
    clean, training, truth = small_set()
    truth = Truth(torch.zeros_like(truth.roles), truth.original_labels, truth.clean_test, None)
    assert draw_changed(clean, training, truth) is None
    export(clean, training, truth, tmp_path)
    assert not (tmp_path / "gallery.png").exists()
    assert {row["kind"] for row in rows_of(tmp_path)} == {"clean"}


def test_what_nobody_knows_is_not_told(tmp_path: Path) -> None:
    clean, training, truth = small_set()
    export(clean, training, truth, tmp_path, truth_known=False)
    assert set(rows_of(tmp_path)[0]) == {"file", "given_label"}


def test_differences_are_ten_times_around_grey() -> None:
    clean = torch.tensor([100, 100, 100, 100, 0, 255], dtype=torch.uint8)
    changed = torch.tensor([100, 101, 97, 200, 255, 0], dtype=torch.uint8)
    assert difference(clean, changed).tolist() == [GREY, GREY + 10, GREY - 30, 255, 255, 0]


@given(st.lists(st.text(max_size=6), min_size=1, max_size=8))
def test_any_class_names_give_distinct_folders_of_their_own(classes: list[str]) -> None:
    names = folder_names(classes)
    assert len({name.casefold() for name in names}) == len(classes)
    for name in names:
        assert Path(name).name == name
        assert name not in {"", ".", ".."}
    assert folder_names(["x_2", "x", "X"]) == ["x_2", "x", "X_2_2"]
    long = folder_names(["x" * 255, "X" * 255, "日" * 100])
    assert len({name.casefold() for name in long}) == 3
    assert all(len(name.encode()) <= 255 for name in long)
    assert folder_names(["airplane", "0", "wide-body jet"]) == ["airplane", "0", "wide-body jet"]


def test_file_names_sort_as_the_samples_do() -> None:
    images = torch.zeros(11, 1, 1, 3, dtype=torch.uint8)
    names = file_names(TrainingSet(images, torch.zeros(11, dtype=torch.int64), ("x",)))
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("train/x/00.png", "train/x/10.png")


def test_attacks_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch = tmp_path / "patch.yaml"
    settings = "{trigger_path: null, patch: {size: 4, row: 0, column: 0}}"
    patch.write_text(f"extends: {DIGITS}\nbackdoor:\n  badnets: {settings}\n")
    out = tmp_path / "gallery.png"
    given = ["badnets", str(patch), "--base", str(DIGITS), "--samples", "2", "--out", str(out)]
    assert draw_gallery.main([*given, f"storage_dir={tmp_path}"]) == 0, capsys.readouterr().err
    sheet = read_png(out)
    # Three columns and twice two rows of 16x16 images, each pixel as 10x10.
    assert sheet.shape[1] == 3 * (160 + 8) + 8
    assert sheet.shape[0] == 4 * (160 + 18 + 8) + 18 + 8
    clean, first, second = (
        sheet[26:186:10, left : left + 160 : 10] for left in (8, 8 + 168, 8 + 336)
    )
    assert torch.nonzero((clean != first).any(dim=2)).tolist() == [[4, 4], [4, 5], [5, 4], [5, 5]]
    assert second[0, :4, 0].tolist() == [255, 0, 255, 0]
    assert torch.equal(second[4:], clean[4:])


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["badnet"], "'badnets'"),
        (["badnets", "backdoor=null"], "backdoor"),
        (["badnets", "--samples", "0"], "--samples"),
    ],
)
def test_a_wrong_gallery_is_one_line(
    given: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*given, "--base", str(DIGITS), "--out", str(tmp_path / "gallery.png")]
    assert draw_gallery.main(given) == 2
    message = capsys.readouterr().err
    assert part in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def raiser(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_full_disk_leaves_no_half_of_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    clean, training, truth = small_set()
    for part in ("write_images", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(f"data.export.{part}", raiser(full))
            with pytest.raises(TrainingError) as caught:
                export(clean, training, truth, tmp_path)
        assert list(tmp_path.iterdir()) == []
        expected = "--export: the disk is full (No space left on device); free a part of it"
        assert str(caught.value) == f"{expected}; nothing is left in {tmp_path}"
    export(clean, training, truth, tmp_path)
    assert (tmp_path / "index.csv").is_file() and not (tmp_path / ".unfinished").exists()

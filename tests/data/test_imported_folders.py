"""What of an imported set cannot be used is refused or said, never passed over."""

from __future__ import annotations

import csv
from pathlib import Path
from shutil import move

import pytest
import torch

from tests.data.imported_cases import (  # noqa: F401 (a fixture)
    copied,
    exported,
    lines_of,
    refused,
    rewrite,
    set_cell,
)
from tests.data.pictures import noise


def of_nine(row: dict[str, str]) -> bool:
    return "9" not in (row["given_label"], row["original_label"])


@pytest.mark.parametrize("part", ["test", "triggered"])
@pytest.mark.parametrize("listed", [True, False], ids=["classes.txt", "none"])
def test_images_in_a_folder_that_is_no_class_are_refused(
    exported: Path, tmp_path: Path, part: str, listed: bool
) -> None:
    folder = copied(exported, tmp_path / "set")
    if not listed:
        (folder / "classes.txt").unlink()
    (folder / part / "3").rename(folder / part / "three")
    message = refused(folder, tmp_path)
    assert f"{folder / part / 'three'} belongs to no class of train/" in message


def test_more_folders_than_the_list_has_are_refused(exported: Path, tmp_path: Path) -> None:
    folder = copied(exported, tmp_path / "set")
    noise(folder / "train" / "strange" / "1.png", 0)
    message = refused(folder, tmp_path)
    assert f"{folder / 'train' / 'strange'} belongs to no class of classes.txt" in message


def test_classes_that_the_users_own_list_leaves_out_are_said(
    exported: Path, tmp_path: Path
) -> None:
    folder = copied(exported, tmp_path / "set")
    (tmp_path / "some.txt").write_text("".join(f"{name}\n" for name in range(9)))
    rewrite(lambda rows: rows.__setitem__(slice(None), [r for r in rows if of_nine(r)]))(folder)
    found, lines = lines_of(
        folder, tmp_path, f"data.classes={tmp_path / 'some.txt'}", "num_classes=9"
    )
    assert found.training.num_classes == 9
    for part in ("train", "test"):
        assert (
            f"{folder / part} holds 1 folders of no class in the list, which are left out: '9'"
            in lines
        )
    # The target is 3, and all triggered images lie there.
    assert found.truth.triggered_test is not None


def test_what_of_the_triggered_images_is_not_measured_is_said(
    exported: Path, tmp_path: Path
) -> None:
    folder = copied(exported, tmp_path / "set")
    triggered = folder / "triggered"
    (triggered / "5").mkdir()
    first = min((triggered / "3").iterdir())
    move(first, triggered / first.name)
    (triggered / "3" / "notes.txt").write_text("x")
    found, lines = lines_of(folder, tmp_path)
    before, _ = lines_of(exported, tmp_path)
    assert found.truth.triggered_test is not None and before.truth.triggered_test is not None
    assert len(found.truth.triggered_test) == len(before.truth.triggered_test) - 1
    for part in (
        f"{triggered} holds 1 pictures outside of its class folders, which are left out",
        f"1 class folders in {triggered} hold no readable image, '5' among them",
        f"{triggered}: 1 file is left out: it is no image",
    ):
        assert any(part in line for line in lines), (part, lines)


def test_a_folder_without_triggered_images_is_said_to_measure_nothing(
    exported: Path, tmp_path: Path
) -> None:
    folder = copied(exported, tmp_path / "set")
    for file in (folder / "triggered").rglob("*.png"):
        file.unlink()
    found, lines = lines_of(folder, tmp_path)
    assert found.truth.triggered_test is None
    assert f"there is no triggered image in {folder / 'triggered'}: ASR is not measured" in lines


def test_rows_of_images_that_cannot_be_read_go_with_them(exported: Path, tmp_path: Path) -> None:
    folder = copied(exported, tmp_path / "set")
    with (folder / "index.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)]
    for name in (names[4], names[77]):
        (folder / name).unlink()
        (folder / name).write_text("no picture")
    assert "data.skip_unreadable=true" in refused(folder, tmp_path)
    found, lines = lines_of(folder, tmp_path, "data.skip_unreadable=true")
    assert "data.truth: 2 of 300 rows are of images that cannot be read" in lines
    left = [place for place in range(300) if place not in (4, 77)]
    before, _ = lines_of(exported, tmp_path)
    assert found.training.files == tuple(names[place] for place in left)
    assert torch.equal(found.truth.roles, before.truth.roles[left])
    assert torch.equal(found.training.images, before.training.images[left])
    # A row of no image at all is still a mistake.
    set_cell(2, "file", "train/0/none.png")(folder)
    assert "there is no training image" in refused(folder, tmp_path, "data.skip_unreadable=true")


def test_the_table_may_lie_elsewhere_with_the_classes_beside_it_or_not(
    exported: Path, tmp_path: Path
) -> None:
    folder, away = copied(exported, tmp_path / "set"), tmp_path / "away"
    away.mkdir()
    before, _ = lines_of(folder, tmp_path)
    backwards = [str(name) for name in reversed(range(10))]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in backwards))
    move(folder / "index.csv", away / "index.csv")
    table = f"data.truth={away / 'index.csv'}"
    # The data set's own list counts, until there is one beside the table.
    found, _ = lines_of(folder, tmp_path, table)
    assert found.training.classes == tuple(backwards)
    (away / "classes.txt").write_text((exported / "classes.txt").read_text())
    found, _ = lines_of(folder, tmp_path, table)
    assert found.training.classes == before.training.classes
    assert torch.equal(found.training.labels, before.training.labels)
    assert torch.equal(found.training.images, before.training.images)


SPELLINGS = ("train/0/\u00e9.png", "train/0/e\u0301.png")  # composed, and as a Mac has it


def with_both(exported: Path, folder: Path, *rows: str) -> Path:
    """Return a set with two images of one name in two spellings, and rows of the table for them."""
    copied(exported, folder)
    for number, name in enumerate(SPELLINGS):
        noise(folder / name, 1000 + number)
    rewrite(lambda table: table.extend({**table[0], "file": name} for name in rows))(folder)
    rewrite(
        lambda table: [row.update(given_label="", original_label="") for row in table[-len(rows) :]]
    )(folder)
    return folder


def test_two_images_of_one_name_in_two_spellings_are_two(exported: Path, tmp_path: Path) -> None:
    found, _ = lines_of(with_both(exported, tmp_path / "set", *SPELLINGS), tmp_path)
    assert (found.training.files or ())[-2:] == SPELLINGS
    assert len(found.training) == 302


@pytest.mark.parametrize("named", [0, 1])
def test_an_image_without_a_row_is_named_in_its_own_spelling(
    exported: Path, tmp_path: Path, named: int
) -> None:
    folder = with_both(exported, tmp_path / "set", SPELLINGS[named])
    message = refused(folder, tmp_path)
    assert f"1 of 302 training images have no row, {SPELLINGS[1 - named]!r}" in message
    rewrite(lambda table: table.append({**table[-1]}))(folder)
    assert "already" in refused(folder, tmp_path)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_broken_image_does_not_take_the_row_of_its_twin_in_spelling(
    exported: Path, tmp_path: Path, broken: int
) -> None:
    folder = with_both(exported, tmp_path / "set", *SPELLINGS)
    (folder / SPELLINGS[broken]).write_text("no image")
    found, lines = lines_of(folder, tmp_path, "data.skip_unreadable=true")
    assert (found.training.files or ())[-1] == SPELLINGS[1 - broken]
    assert len(found.training) == 301
    assert "data.truth: 1 of 302 rows are of images that cannot be read" in lines

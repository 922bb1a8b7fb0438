"""Own folders: a folder of verified images, held-out samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ASD
from config.load import load_config
from data.dataset import DATASETS
from data.dataset.image_folder import ImageFolder
from data.names import Names
from tests.conftest import DIGITS
from tests.data.own_data_cases import (  # noqa: F401 (fixtures)
    CLASSES,
    OWN,
    draw_image,
    folder,
    listed,
    make_folder,
    material,
    names,
    refused,
    seed_files,
)
from utils.errors import InputError


def test_checked_images_are_found_among_the_training_images_or_added(folder: Path) -> None:
    checked = folder.parent / "checked"
    make_folder(folder.parent, per_class=2, beside="checked")  # the same pixels as 00 and 01
    for label, name in enumerate(CLASSES):
        draw_image(checked / name / "new.png", 1000 + label, (20, 30))
    draw_image(checked / CLASSES[0] / "again.png", 1000, (20, 30))
    found = material(folder, f"global.seed_dir={checked}", "global.seed_num=3")
    assert len(found.training) == 36 + 3
    new = [f"seeds/{name}/{'again' if name == CLASSES[0] else 'new'}.png" for name in CLASSES]
    assert sorted(seed_files(found)) == sorted(names(2) + new)
    labels = found.training.labels[found.seeds]
    assert torch.bincount(labels).tolist() == [3, 3, 3]
    assert any("6 are training images, 3 are added" in line for line in found.lines)
    assert any("'seeds/big cats/new.png' repeats" in line for line in found.lines)
    assert found.training.home is not None
    assert all(found.training.home.path(file).is_file() for file in seed_files(found))
    named = Names(found.training)
    assert [named.by_path(str(checked / name / "new.png")) for name in CLASSES[1:]] == [37, 38]
    assert named.by_path(str(folder / CLASSES[1] / "new.png")) is None


def test_the_folder_beside_train_is_taken_without_being_named(folder: Path) -> None:
    make_folder(folder, per_class=3, beside="seeds")
    found = material(folder)
    assert found.seeds_checked
    assert len(found.seeds) == 6  # of nine, one a class is held out
    assert any(str(folder / "seeds") in line for line in found.lines)
    assert not any("is not read" in line for line in found.lines)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["backdoor={poison_ratio: 0.1, target_label: 0, bpp: null}"], "backdoor says which"),
        (["global.seed_indices={list}"], "global.seed_indices lists"),
        (["global.seed_indices={list}", "backdoor={sig: null, target_label: 0}"], "indices lists"),
        (["data.truth={table}"], "data.truth says which images are clean, and the seeds are drawn"),
        (["data.truth={table}", "global.seed_choice=witnesses"], "and witnesses choose"),
    ],
)
def test_a_folder_beside_train_that_counts_for_nothing_is_said(
    folder: Path, more: list[str], part: str
) -> None:
    table = folder.parent / "index.csv"
    table.write_text("file,kind\n" + "".join(f"{name},clean\n" for name in names(12)))
    given = listed(folder, "\n".join(names(6))).partition("=")[2]
    more = [word.replace("{table}", str(table)).replace("{list}", given) for word in more]
    more.append("global.seed_num=2")
    silent = material(folder, *more)
    assert not [line for line in silent.lines if "is not read" in line]
    make_folder(folder, per_class=3, beside="seeds")
    found = material(folder, *more)
    assert [part in line for line in found.lines if f"{folder / 'seeds'} is not read" in line] == [
        True
    ]
    assert torch.equal(found.seeds, silent.seeds)


def test_class_folders_alone_may_have_a_class_called_seeds(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for label, name in enumerate(("seeds", "fruits")):
        for number in range(4):
            draw_image(root / name / f"{number}.png", 10 * label + number)
    found = material(root)
    assert found.training.classes == ("fruits", "seeds")
    assert not found.seeds_checked
    for label, name in enumerate(("seeds", "fruits")):  # of which `seeds/0.png` might be either
        draw_image(tmp_path / "checked" / name / "0.png", 100 + label)
    message = refused(root, f"global.seed_dir={tmp_path / 'checked'}")
    assert "a class folder called 'seeds'" in message
    (root / "train").mkdir()
    for name in ("seeds", "fruits"):
        (root / name).rename(root / "train" / name)
    checked = f"global.seed_dir={tmp_path / 'checked'}"
    found = material(root, checked, "global.seed_num=1")
    assert "seeds/seeds/0.png" in seed_files(found)
    assert found.training.home is not None
    for file in found.training.files or ():
        assert found.training.home.path(file).is_file(), file


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ([], ["holds no image"]),
        (["big cat/1.png"], ["belongs to no class", "'big cats'"]),
        (["big cats/1.png"], ["0 samples of class", "global.seed_num wants 1"]),
    ],
)
def test_a_folder_of_checked_images_that_does_not_fit(
    folder: Path, files: list[str], parts: list[str]
) -> None:
    checked = folder.parent / "checked"
    checked.mkdir()
    for file in files:
        draw_image(checked / file, 999)
    message = refused(folder, f"global.seed_dir={checked}")
    for part in [*parts, "global.seed_dir"]:
        assert part in message, message


def test_a_checked_image_that_the_training_set_labels_otherwise(folder: Path) -> None:
    checked = folder.parent / "checked"
    draw_image(checked / CLASSES[1] / "mine.png", 0)  # the pixels of big cats/00.png
    message = refused(folder, f"global.seed_dir={checked}")
    for part in ("'seeds/Äpfel/mine.png'", "'big cats'", "train/big cats/00.png"):
        assert part in message


def test_one_checked_image_in_two_classes(folder: Path) -> None:
    for name in CLASSES[:2]:
        draw_image(folder.parent / "checked" / name / "1.png", 999)
    message = refused(folder, f"global.seed_dir={folder.parent / 'checked'}")
    assert "the same image in two classes" in message


def test_places_where_checked_images_cannot_be(folder: Path) -> None:
    (folder.parent / "broken" / CLASSES[0]).mkdir(parents=True)
    (folder.parent / "broken" / CLASSES[0] / "1.png").write_text("no image")
    assert "there is no folder" in refused(folder, "global.seed_dir=nowhere")
    inside = folder / "train" / CLASSES[0]
    assert "among the class folders" in refused(folder, f"global.seed_dir={inside}")
    broken = refused(folder, f"global.seed_dir={folder.parent / 'broken'}")
    assert broken.startswith("global.seed_dir: 1 of 1 images cannot be read")
    with pytest.raises(InputError, match=r"global\.seed_dir and backdoor contradict"):
        load_config(DIGITS, ["global.seed_dir=x"])
    with pytest.raises(InputError, match=r"global\.seed_dir and global\.seed_indices"):
        load_config(OWN, ["global.seed_dir=x", "global.seed_indices=y"])


@pytest.mark.parametrize(
    ("seed_num", "held_out"), [("auto", 3), ("9", 0), ("8", 1), ("6", 3), ("2", 3)]
)
def test_what_lies_beyond_seed_num_up_to_a_third_is_held_out(
    folder: Path, seed_num: str, held_out: int
) -> None:
    before = material(folder, listed(folder, "\n".join(names(9))), "global.seed_num=9")
    found = material(folder, listed(folder, "\n".join(names(9))), f"global.seed_num={seed_num}")
    test = found.truth.clean_test
    assert found.holds_out == (held_out > 0)
    assert len(test) == 3 * held_out
    assert len(found.training) == 36 - 3 * held_out
    assert len(found.seeds) == 27 - 3 * held_out
    assert test.files is not None or not held_out
    assert found.training.files is not None
    apart = set(test.files or ())
    assert not apart & set(found.training.files)
    assert apart | set(seed_files(found)) == set(names(9))
    for index, file in enumerate(found.training.files):
        assert before.training.files is not None
        place = before.training.files.index(file)
        assert torch.equal(found.training.images[index], before.training.images[place])
        assert CLASSES[int(found.training.labels[index])] in file
    again = material(folder, listed(folder, "\n".join(names(9))), f"global.seed_num={seed_num}")
    assert again.data.fingerprint() == found.data.fingerprint()
    assert any("ACC is" in line for line in found.lines)


def test_a_test_folder_spares_the_seeds(folder: Path) -> None:
    draw_image(folder / "test" / CLASSES[0] / "1.png", 5)
    found = material(folder, listed(folder, "\n".join(names(9))))
    assert (len(found.seeds), len(found.truth.clean_test)) == (27, 1)
    assert not found.holds_out


def test_unchecked_seeds_are_said_and_measure_nothing(folder: Path) -> None:
    found = material(folder)
    assert not found.seeds_checked
    assert len(found.seeds) == 3 * 6  # half of each class
    assert not len(found.truth.clean_test)
    assert sum("NOBODY HAS CHECKED" in line for line in found.lines) == 1
    assert "class 'big cats' has 12 samples" in refused(folder, "global.seed_num=13")


def test_a_set_larger_than_memory_is_not_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = listed(folder, "\n".join(names(9)))
    monkeypatch.setattr("data.held_out.free_bytes", lambda _: 36 * 3 * 16**2 - 1)
    assert "larger than memory" in refused(folder, given)
    assert len(material(folder, given, "global.seed_num=9").seeds) == 27  # nothing is held out


def test_when_everything_is_verified_there_is_nothing_to_defend(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = listed(folder, "\n".join(names(12)))
    given = ["--config", str(OWN), "--gpu", "cpu", "--check", "data.image_size=16", everything]
    given += [f"dataset_dir={folder}", f"storage_dir={folder.parent / 'storage'}"]
    assert ASD.main(given) == 2
    assert "nothing to defend" in capsys.readouterr().err
    assert ASD.main([*given, "defense=none"]) == 0


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["a", "b", "seeds/a", "seeds/b"], "has seeds/ and no train/"),
        (["Train/a", "Train/b", "Seeds/a"], "has Train/ and no train/"),
        (["Train/a", "Train/b", "Test/a", "Test/b"], "has Test/ and no train/"),
        (["train/a", "train/b", "Seeds/a"], "call it seeds"),
        (["train/a", "train/b", "TEST/a"], "call it test"),
        (["a", "b", "test"], "has test/ and no train/"),
    ],
)
def test_parts_of_the_data_are_never_taken_for_classes(
    tmp_path: Path, found: list[str], words: str
) -> None:
    for number, place in enumerate(found):
        for image in range(3):
            draw_image(tmp_path / "data" / place / f"{image}.png", 10 * number + image)
    assert words in refused(tmp_path / "data")


def test_a_class_may_be_called_as_a_part_is(tmp_path: Path) -> None:
    """Trains, say, or seeds of plants: what holds pictures, and no class folders, is a class."""
    for number, name in enumerate(("Train", "ship", "Seeds")):
        for image in range(3):
            draw_image(tmp_path / "data" / name / f"{image}.png", 10 * number + image)
    found = material(tmp_path / "data", "global.seed_num=1")
    assert found.training.classes == ("Seeds", "Train", "ship")


def test_a_list_of_classes_chooses_among_the_verified_ones_too(folder: Path) -> None:
    (folder.parent / "classes.txt").write_text("\n".join(CLASSES[:2]), encoding="utf-8")
    for label, name in enumerate((*CLASSES, "more")):
        for number in range(3):
            draw_image(folder / "seeds" / name / f"{number}.png", 1000 + 10 * label + number)
    assert "belongs to no class" in refused(folder)
    chosen = f"data.classes={folder.parent / 'classes.txt'}"
    found = material(folder, chosen, "global.seed_num=2")
    assert len(found.seeds) == 4 and found.seeds_checked


class Photos(ImageFolder):
    """Somebody's own kind of folder."""


def test_another_set_of_class_folders_takes_verified_images_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DATASETS, "_entries", {**DATASETS._entries, "photos": Photos})
    make_folder(folder, per_class=3, beside="seeds")
    ours, theirs = material(folder, "dataset=photos"), material(folder)
    assert ours.seeds_checked and torch.equal(ours.seeds, theirs.seeds)
    make_folder(folder.parent, per_class=3, beside="checked")
    given = f"global.seed_dir={folder.parent / 'checked'}"
    assert torch.equal(material(folder, "dataset=photos", given).seeds, theirs.seeds)
    told = refused(folder, "dataset=digits", "data.image_size=null", given)
    assert "for dataset image_folder, photos only" in told

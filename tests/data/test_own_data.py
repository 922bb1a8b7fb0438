"""Own folders: verified samples, a held-out part of them, and nothing about an unknown truth."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ASD
import run_all
from config.load import load_config
from data.build import Material, assemble, load_data
from data.own import sample_path
from report.seeds import doubtful
from run.checkpoint import LATEST
from tests.conftest import DIGITS, TINY
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams

OWN = PROJECT / "config" / "own_data.yaml"
CLASSES = ("big cats", "Äpfel", "日本")  # in the order of their labels
OF_TRUTH = ("asr", "attack", "poison", "tpr", "fpr", "auroc")


def draw_image(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def make_folder(root: Path, per_class: int = 12, beside: str = "train") -> Path:
    """Write `per_class` images of noise for each class; no two are the same."""
    for label, name in enumerate(CLASSES):
        for number in range(per_class):
            draw_image(root / beside / name / f"{number:02d}.png", 100 * label + number)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "my data")


def material(root: Path, *overrides: str) -> Material:
    """Return what a run on the folder would be made from."""
    given = ["data.image_size=16", f"dataset_dir={root}", f"storage_dir={root.parent / 'storage'}"]
    config = load_config(OWN, [*given, *overrides]).config
    return assemble(config, load_data(config)[0], Streams(3))


def refused(root: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        material(root, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def listed(root: Path, text: str, name: str = "seeds.txt") -> str:
    """Write a list of verified samples; return the override that names it."""
    (root.parent / name).write_text(text, encoding="utf-8")
    return f"global.seed_indices={root.parent / name}"


def names(count: int, prefix: str = "train/") -> list[str]:
    return [f"{prefix}{name}/{number:02d}.png" for name in CLASSES for number in range(count)]


def seed_files(found: Material) -> list[str]:
    assert found.training.files is not None
    return [found.training.files[index] for index in found.seeds.tolist()]


# ----------------------------------------------------------------------------- lists of file names


@pytest.mark.parametrize("prefix", ["train/", "", "./"])
def test_names_are_relative_to_the_folder_or_to_train(folder: Path, prefix: str) -> None:
    text = "# checked by hand\n\n" + "\n".join(names(4, prefix)) + "\n"
    found = material(folder, listed(folder, text), "global.seed_num=4")
    assert seed_files(found) == sorted(names(4))
    assert found.seeds_checked


@pytest.mark.parametrize("header", ["", "file\n", "file,label\n", "label,note,file\n"])
def test_tables_of_names(folder: Path, header: str) -> None:
    rows = []
    for name in names(4):
        cells = {"file": name, "label": name.split("/")[1], "note": "seen, and good"}
        columns = header.strip().split(",") if header else ["file", "label"]
        rows.append(",".join(f'"{cells[column]}"' for column in columns))
    text = "\ufeff" + header + "\n".join(rows)
    found = material(folder, listed(folder, text, "seeds.csv"), "global.seed_num=4")
    assert seed_files(found) == sorted(names(4))


def test_an_umlaut_in_two_parts_is_the_same_letter(folder: Path) -> None:
    text = unicodedata.normalize("NFD", "\n".join(names(4)))
    assert text != "\n".join(names(4))
    assert len(material(folder, listed(folder, text), "global.seed_num=4").seeds) == 12


def test_names_that_begin_with_a_number(tmp_path: Path) -> None:
    for label in ("1", "2"):
        for number in range(4):
            draw_image(tmp_path / "d" / label / f"{number} 1.png", 10 * int(label) + number)
    text = "\n".join(f"{label}/{number} 1.png" for label in "12" for number in range(2))
    found = material(tmp_path / "d", listed(tmp_path / "d", text), "global.seed_num=2")
    assert seed_files(found) == ["1/0 1.png", "1/1 1.png", "2/0 1.png", "2/1 1.png"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["lists no sample"]),
        ("# nothing yet\n", ["lists no sample"]),
        ("file\n", ["lists no sample"]),
        (
            "train/big cat/01.png",
            ["line 1", "'train/big cat/01.png'", "did you mean 'train/big cats/01.png'?"],
        ),
        ("\nÄpfel/99.png", ["line 2", "there is no training sample 'Äpfel/99.png'"]),
        ("Äpfel/01.png\ntrain/Äpfel/01.png", ["line 2", "is named in line 1 already"]),
        (
            "file,label\nÄpfel/01.png,big cats",
            ["line 2", "verified as 'big cats'", "folder of class 'Äpfel'"],
        ),
        ("file,label\nÄpfel/01.png,big cat", ["line 2", "no class 'big cat'", "'big cats'"]),
        ("\n".join(names(5)[:-2]), ["3 samples of class '日本'", "global.seed_num wants 5"]),
    ],
)
def test_a_list_that_does_not_fit(folder: Path, text: str, parts: list[str]) -> None:
    message = refused(folder, listed(folder, text), "global.seed_num=5")
    assert "seeds.txt" in message
    for part in parts:
        assert part in message, message


def test_a_list_that_is_no_text(folder: Path) -> None:
    file = folder.parent / "seeds.txt"
    file.write_bytes(b"\xff\xfe\x00")
    assert "no text in" in refused(folder, f"global.seed_indices={file}")
    assert "there is no file" in refused(folder, "global.seed_indices=nowhere.txt")


# ----------------------------------------------------------------------- folders of checked images


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
    overrides = [f"dataset_dir={folder}", f"global.seed_dir={checked}"]
    config = load_config(OWN, overrides).config
    assert all(sample_path(file, folder, config).is_file() for file in seed_files(found))


def test_the_folder_beside_train_is_taken_without_being_named(folder: Path) -> None:
    make_folder(folder, per_class=3, beside="seeds")
    found = material(folder)
    assert found.seeds_checked
    assert len(found.seeds) == 6  # of nine, one a class is held out
    assert any(str(folder / "seeds") in line for line in found.lines)


def test_class_folders_alone_may_have_a_class_called_seeds(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for label, name in enumerate(("seeds", "fruits")):
        for number in range(4):
            draw_image(root / name / f"{number}.png", 10 * label + number)
    found = material(root)
    assert found.training.classes == ("fruits", "seeds")
    assert not found.seeds_checked


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


# ------------------------------------------------------------------------------------- held out


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


def test_when_everything_is_verified_there_is_nothing_to_defend(folder: Path) -> None:
    assert "nothing to defend" in refused(folder, listed(folder, "\n".join(names(12))))
    plain = listed(folder, "\n".join(names(12)))
    assert len(material(folder, plain, "defense=none").seeds) == 24


# ------------------------------------------------------------------------------------- whole runs

SHORT = (
    "network={resnet18_cifar: {width: 4}}",
    "semi.mixmatch.train_iteration=2",
    "semi.loader.batch_size=8",
    "meta.epoch=1",
    "num_epochs=3",
)


def test_a_run_on_own_data_says_nothing_of_a_truth(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = folder.parent / "storage"
    arguments = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={folder}"]
    arguments += [f"storage_dir={storage}", listed(folder, "\n".join(names(6))), *SHORT]
    assert ASD.main([*arguments, "--check"]) == 0
    assert ASD.main(arguments) == 0
    out = capsys.readouterr().out
    assert "auto: data.image_size: 16" in out
    assert "ACC is measured on 6 verified samples" in out
    run = storage / "own_data"
    with (run / "log.csv").open() as file:
        header = next(csv.reader(file))
    result = json.loads((run / "result.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    shown = out.lower().replace("may be poisoned", "")
    for word in OF_TRUTH:
        keys = {*header, *result, *manifest} - {"estimated_poisoned"}  # a guess, not the truth
        assert not [key for key in keys if word in key], word
        assert word not in shown.split()
    assert result["acc"] is not None
    assert result["seeds_checked"] is manifest["seeds_checked"] is True
    assert len(manifest["held_out_files"]) == 6
    assert len(manifest["seed_files"]) == 12

    # Whatever becomes of the data's size, a run keeps what was chosen for it, until others are it.
    code = ASD.main([*arguments, "--resume", LATEST])
    assert code == 0
    assert "data.image_size: 16 (as before)" in capsys.readouterr().out
    table = folder.parent / "table.csv"
    given = [str(OWN), "--gpu", "cpu", "--csv", str(table), "--", *arguments[4:]]
    assert run_all.main(given) == 0
    assert "finished before" in capsys.readouterr().out
    assert "asr" not in table.read_text()
    (folder / "train" / CLASSES[1] / "11.png").unlink()
    assert ASD.main(arguments) == 2
    assert "other data" in capsys.readouterr().err


def test_three_images_a_class_and_nothing_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "d", per_class=3)
    arguments = ["--config", str(OWN), "--gpu", "cpu", f"dataset_dir={root}", *SHORT]
    assert ASD.main([*arguments, f"storage_dir={tmp_path / 'storage'}"]) == 0
    out = capsys.readouterr().out
    assert "NOBODY HAS CHECKED THE SEEDS: 1 images a class" in out
    result = json.loads((tmp_path / "storage" / "own_data" / "result.json").read_text())
    assert (result["acc"], result["best_acc"], result["seeds_checked"]) == (None, None, False)


def test_a_missing_folder_and_one_without_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(OWN), "--gpu", "cpu", f"storage_dir={tmp_path / 's'}"]
    draw_image(tmp_path / "d" / "train" / "only" / "1.png", 1)
    for given, part in (
        ([], "dataset_dir: missing"),
        ([f"dataset_dir={tmp_path / 'nowhere'}"], "there is no folder"),
        ([f"dataset_dir={tmp_path / 'd'}"], "two classes or more, only 'only'"),
    ):
        assert ASD.main([*arguments, *given]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert part in error


def test_benchmark_data_without_an_attack_are_trusted(tmp_path: Path) -> None:
    config = load_config(DIGITS, [*TINY, "backdoor=null", f"storage_dir={tmp_path}"]).config
    found = assemble(config, load_data(config)[0], Streams(3))
    assert found.seeds_checked
    assert not found.holds_out
    assert len(found.truth.clean_test) == 360


# --------------------------------------------------------------------------------- doubtful seeds


def losses_of_seeds(seed: int, per_class: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses as of a trained model: mostly near 0, with a tail; the first half are the seeds."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(2 * 10 * per_class) % 10
    normal = torch.randn(len(labels), generator=generator)
    seeds = torch.arange(0, len(labels) // 2)
    return 0.1 * (0.7 * normal).exp(), labels, seeds


@pytest.mark.parametrize("per_class", [1, 3, 10, 20])
def test_a_mislabelled_seed_is_doubtful(per_class: int) -> None:
    loss, labels, seeds = losses_of_seeds(0, per_class)
    loss[3], loss[8], loss[-1] = 4.0, 5.0, 9.0  # the last one is no seed
    assert doubtful(loss, labels, seeds, 10).tolist() == [8, 3]


def test_clean_seeds_are_hardly_ever_doubtful() -> None:
    found = sum(len(doubtful(*losses_of_seeds(seed, 20), 10)) for seed in range(20))
    assert found <= 2  # of 4,000


def test_a_class_that_is_hard_as_a_whole_is_not_doubtful() -> None:
    loss, labels, seeds = losses_of_seeds(1, 10)
    loss[labels == 4] += 3.0
    assert not len(doubtful(loss, labels, seeds, 10))
    loss[4] += 3.0
    assert doubtful(loss, labels, seeds, 10).tolist() == [4]
    assert not len(doubtful(loss, labels, seeds[:0], 10))

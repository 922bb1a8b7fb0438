"""`--export-clean --layout imagefolder`: what Hugging Face's own loader reads of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

import ASD
from data.clean import IMAGEFOLDER, write_clean
from data.imagefolder import LOADED, places
from data.poison import TrainingSet
from tests.conftest import colourful_images
from tests.data.pictures import COLOUR, FORMATS, save
from tests.data.test_export_clean import Run, contents
from utils.errors import InputError, TrainingError

# Names by which the loader would find splits, labels and images that are none.
FILES = ("test/1.png", "test/deep/test/1.png", "val set/1.jpg", "val set/no ending", "a__b/x.y")
CLASSES = ("test", "val set", "a__b", "train")
LABELS = torch.tensor([0, 0, 1, 1, 2])


def write_files(folder: Path) -> TrainingSet:
    images = colourful_images(len(FILES), 8)
    for image, file in zip(images, FILES, strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(folder / file, format="PNG")
    return TrainingSet(images, LABELS, CLASSES, files=FILES)


def load(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


@pytest.mark.parametrize("copied", [True, False])
def test_the_loader_finds_every_image_and_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    training = write_files(source)
    target.mkdir()
    kept = [0, 1, 2, 3, 4]
    locate = (lambda name: source / name) if copied else None
    write_clean(training, kept, target, locate, IMAGEFOLDER)
    found = load(target, tmp_path / "cache", monkeypatch)
    assert list(found) == ["train"]
    names = found["train"].features["label"].names
    pairs = {(names[row["label"]], row["image"].convert("RGB").tobytes()) for row in found["train"]}
    wanted = {
        (CLASSES[int(label)], bytes(image.flatten().tolist()))
        for label, image in zip(LABELS, training.images, strict=True)
    }
    assert pairs == wanted


def test_no_picture_of_any_format_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader says nothing of files whose ending it does not know; they were lost."""
    source, target = tmp_path / "source", tmp_path / "target"
    files = [f"__cats/1{ending}" for ending in FORMATS]
    files += ["__cats/1.wav.png", "__cats/deep.csv/1.QOI", "__cats/1.h5"]
    for file in files:
        save(source / file)
    training = TrainingSet(
        torch.empty(0), torch.zeros(len(files), dtype=torch.int64), ("__cats",), files=tuple(files)
    )
    target.mkdir()
    kept = list(range(len(files)))
    line = write_clean(training, kept, target, lambda name: source / name, IMAGEFOLDER)[0]
    assert "; 3 of them were written as PNG" in line
    found = load(target, tmp_path / "cache", monkeypatch)["train"]
    assert found.features["label"].names == ["__cats"]
    assert len(found) == len(files)
    colours = [row["image"].convert("RGB").getpixel((8, 8)) for row in found]
    assert all(abs(a - b) < 12 for colour in colours for a, b in zip(colour, COLOUR, strict=True))
    qoi = target / "train" / "__cats" / "deep_csv__1.png"
    with Image.open(qoi) as image:
        assert (image.format, image.getpixel((3, 3))) == ("PNG", COLOUR)


def test_every_ending_that_is_left_is_one_that_the_loader_knows() -> None:
    module = pytest.importorskip("datasets.packaged_modules.imagefolder.imagefolder")
    assert set(module.ImageFolder.EXTENSIONS) >= LOADED


def test_what_becomes_png_loses_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    pixels = colourful_images(1, 8)[0].numpy()
    for file, alpha in (("a/1.qoi", None), ("a/1.png", None), ("a/2.qoi", 77)):
        image = Image.fromarray(pixels)
        if alpha is not None:
            image.putalpha(alpha)
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        image.save(source / file)
    names = ("a/1.qoi", "a/1.png", "a/2.qoi")
    training = TrainingSet(torch.empty(0), torch.tensor([0, 0, 0]), ("a", "b"), files=names)
    target.mkdir()
    line = write_clean(training, [0, 1, 2], target, lambda name: source / name, IMAGEFOLDER)[0]
    assert line.endswith("; 2 of them were written as PNG, since the loader knows no such files")
    for name, file in zip(("1.png", "1_1.png", "2.png"), names, strict=True):
        with Image.open(target / "train" / "a" / name) as ours, Image.open(source / file) as theirs:
            assert (ours.mode, ours.tobytes()) == (theirs.mode, theirs.tobytes())


def test_a_file_that_cannot_become_png_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    save(source / "a" / "1.qoi").write_bytes(b"qoif")
    training = TrainingSet(torch.empty(0), torch.tensor([0]), ("a", "b"), files=("a/1.qoi",))
    target.mkdir()
    with pytest.raises(TrainingError, match=r"1\.qoi: .*; nothing is left in"):
        write_clean(training, [0], target, lambda name: source / name, IMAGEFOLDER)
    assert list(target.iterdir()) == []


def test_what_lies_deeper_is_lifted_and_nothing_falls_together() -> None:
    paths = [
        Path("a/x/1.png"),
        Path("a/x__1.png"),
        Path("a/X__1.PNG"),
        Path("a/noise"),
        Path("b/1"),
    ]
    found, made = places(paths, lambda number: ".jpg")
    assert not made
    assert [path.as_posix() for path in found[:2]] == ["train/a/x__1.png", "train/a/x__1_1.png"]
    assert len({path.as_posix().casefold() for path in found}) == len(paths)
    assert all(len(path.parts) == 3 for path in found)
    assert [path.name for path in found[3:]] == ["noise.jpg", "1.jpg"]


def test_labels_keep_their_numbers_where_a_class_is_left_without_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    names = ("b", 'it\'s: a #1 \\ "é" 日本', "a")  # in no order
    files = tuple(f"{name}/1.png" for name in names)
    for file in files:
        save(source / file)
    training = TrainingSet(torch.empty(0), torch.arange(3), names, files=files)
    target.mkdir()
    lines = write_clean(training, [0, 2], target, lambda name: source / name, IMAGEFOLDER)
    assert lines[1] == f"no image is kept of 1 class: {names[1]!r}"
    found = load(target, tmp_path / "cache", monkeypatch)["train"]
    assert tuple(found.features["label"].names) == names
    assert sorted(found["label"]) == [0, 2]
    assert "No image was kept of: " in (target / "README.md").read_text("utf-8")


@pytest.mark.parametrize("letter", ["x", "日", "\udce9"])
def test_a_long_name_is_cut_and_stays_one_of_its_own(letter: str) -> None:
    deep = letter * (200 // len(os.fsencode(letter)))
    paths = [Path("a", deep, deep, f"{number}.jpeg") for number in range(3)]
    paths += [Path("a", f"{deep}__{deep}__0.jpeg")]
    found, _ = places(paths, lambda number: ".jpg")
    assert all(len(os.fsencode(place.name)) <= 255 and place.suffix == ".jpeg" for place in found)
    assert all(place.name.startswith(deep) for place in found)
    assert len(set(found)) == len(paths)


def test_a_class_that_is_left_without_an_image_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, "train")
    run.keep(run.names[0])
    assert run.export() == 0
    out = capsys.readouterr().out
    assert "1 of 5 images, of 1 class, copied to" in out
    assert "no image is kept of 1 class: 'Kühe 日本'" in out


def test_through_the_command_line(tmp_path: Path) -> None:
    run = Run(tmp_path, "train")
    run.keep(run.names[1], run.names[3])
    arguments = [*run.arguments, "--export-clean", str(run.target), "--layout", "imagefolder"]
    assert ASD.main(arguments) == 0
    wanted = ["README.md", "train/Kühe 日本/a.png", "train/cat/below__a.png"]
    assert contents(run.target) == wanted
    card = (run.target / "README.md").read_text("utf-8")
    assert "2 of 5 images" in card and "split: train" in card


def test_a_layout_without_an_export_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert ASD.main(["--layout", "imagefolder"]) == InputError.exit_code
    assert "--layout says how --export-clean writes" in capsys.readouterr().err

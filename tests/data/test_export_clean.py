"""`--export-clean`: the files that the report keeps, each of them, or none and a reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ASD
from config.load import load_config
from data import clean
from data.build import assemble, load_data, poison_data
from data.clean import LAYOUTS, place_in_class
from data.poison import TrainingSet
from tests.conftest import DIGITS, colourful_images, tiny_config
from utils.streams import Streams

FILES = ("cat/a.png", "cat/below/a.png", "cat/below/b c.jpg", "Kühe 日本/a.png", "Kühe 日本/d.png")


class Run:
    """A finished run on a folder of images, as far as `--export-clean` looks at it."""

    def __init__(self, root: Path, train: str) -> None:
        self.data, self.storage, self.target = root / "data", root / "storage", root / "clean"
        for number, file in enumerate(FILES):
            path = self.data / train / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(colourful_images(1, 9, number)[0].numpy()).save(path)
        self.names = [f"{train}/{file}".lstrip("/") for file in FILES]
        self.arguments = ["--config", str(DIGITS), "--gpu", "cpu", f"storage_dir={self.storage}"]
        self.arguments += ["dataset=image_folder", f"dataset_dir={self.data}", "backdoor=null"]
        self.arguments += ["num_classes=2", "data.image_size=16", "global.seed_num=1"]
        self.folder = self.storage / "digits"
        write_manifest(self.folder, self.arguments[4:])

    def keep(self, *lines: str) -> None:
        (self.folder / "report").mkdir(exist_ok=True)
        (self.folder / "report" / "purified.txt").write_text("".join(f"{line}\n" for line in lines))

    def export(self) -> int:
        return ASD.main([*self.arguments, "--export-clean", str(self.target)])

    def written(self) -> list[str]:
        return contents(self.target)


def contents(folder: Path) -> list[str]:
    found = folder.rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def write_manifest(folder: Path, overrides: list[str]) -> None:
    config = load_config(DIGITS, overrides).config
    data, _ = load_data(config)
    fingerprints = assemble(config, data, Streams(100)).fingerprints(config.truth_known)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"seed": 100, "fingerprints": fingerprints}
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.fixture(params=["train", ""], ids=["with train/", "without"])
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return Run(tmp_path, request.param)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, "train")


def refused(run: Run, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    capsys.readouterr()
    assert run.export() == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_the_kept_files_are_copied_byte_for_byte(
    any_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    any_run.keep(*any_run.names[:4])
    assert any_run.export() == 0
    assert any_run.written() == sorted(FILES[:4])  # two are called a.png, and both are there
    for name, file in zip(any_run.names[:4], FILES, strict=False):
        assert (any_run.target / file).read_bytes() == (any_run.data / name).read_bytes()
    assert "4 of 5 images, of 2 classes, copied" in capsys.readouterr().out
    (any_run.target / FILES[0]).write_bytes(b"")  # a copy, not a link
    assert (any_run.data / any_run.names[0]).stat().st_size > 0


def test_images_without_files_are_written_as_they_were_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["data.train_samples=300", f"storage_dir={tmp_path}"]
    write_manifest(tmp_path / "digits", given)
    (tmp_path / "digits" / "report").mkdir()
    kept = [5, 17, 299]
    text = "\n".join(map(str, kept))
    (tmp_path / "digits" / "report" / "purified.txt").write_text(text)  # no newline at its end
    target = tmp_path / "out" / "new"
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *given, "--export-clean", str(target)]
    assert ASD.main(arguments) == 0
    assert "3 of 300 images" in capsys.readouterr().out
    config = tiny_config().config
    training, _ = poison_data(config, load_data(config)[0], Streams(100))
    names = [f"{int(training.labels[index])}/{index:03}.png" for index in kept]
    assert contents(target) == sorted(names)
    for index, name in zip(kept, names, strict=True):
        with Image.open(target / name) as image:
            assert torch.equal(torch.from_numpy(np.array(image)), training.images[index])


def test_triggered_images_are_in_no_file_and_are_written(run: Run) -> None:
    run.arguments = [item for item in run.arguments if item != "backdoor=null"]
    run.arguments += ["backdoor.poison_ratio=0.2", "backdoor.target_label=1"]
    write_manifest(run.folder, run.arguments[4:])
    run.keep(*run.names)
    assert run.export() == 0
    config = load_config(DIGITS, run.arguments[4:]).config
    training, truth = poison_data(config, load_data(config)[0], Streams(100))
    assert int(truth.poisoned.sum()) == 1
    names = [f"{training.classes[training.labels[index]]}/{index}.png" for index in range(5)]
    assert run.written() == sorted(names)
    for name, expected in zip(names, training.images, strict=True):
        with Image.open(run.target / name) as image:
            assert torch.equal(torch.from_numpy(np.array(image)), expected)


def test_files_of_a_set_that_was_poisoned_elsewhere_are_copied(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was changed here: what lies on the disk is what was trained on."""
    rows = "".join(f"{name},clean\n" for name in run.names)
    (run.data / "index.csv").write_text(f"file,kind\n{rows}")
    run.arguments.append("data.truth=index.csv")
    write_manifest(run.folder, run.arguments[4:])
    run.keep(*run.names[1:])
    assert run.export() == 0
    assert run.written() == sorted(FILES[1:])
    for name, file in zip(run.names[1:], FILES[1:], strict=True):
        assert (run.target / file).read_bytes() == (run.data / name).read_bytes()
    assert "4 of 5 images, of 2 classes, copied" in capsys.readouterr().out


def test_without_a_report_a_line_says_what_makes_it(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(run, capsys)
    assert str(run.folder / "report" / "purified.txt") in message
    assert "this command with --report for --export-clean writes it" in message  # it is long
    (run.folder / "manifest.json").unlink()
    assert "this command without --export-clean makes the run" in refused(run, capsys)
    (run.folder / "manifest.json").write_text('{"seed": null}')
    assert "no manifest" in refused(run, capsys)
    assert not run.target.exists()


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["../../secret.png"], ["line 1", "'../../secret.png' is no training image"]),
        (["train/cat/a.png", "train/cat/a.png"], ["line 2", "listed twice"]),
        (["train/cat/a.png", "5"], ["line 2", "'5' is no training image"]),
        ([], ["keeps no image"]),
    ],
)
def test_a_foreign_list_is_one_clear_line(
    run: Run, capsys: pytest.CaptureFixture[str], lines: list[str], parts: list[str]
) -> None:
    run.keep(*lines)
    message = refused(run, capsys)
    for part in parts:
        assert part in message
    assert not run.target.exists()


def test_a_folder_that_is_not_empty_is_left_alone(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.keep(*run.names)
    run.target.mkdir()
    (run.target / "mine.txt").write_text("x")
    assert f"--export-clean {run.target}: the folder is not empty" in refused(run, capsys)
    assert run.written() == ["mine.txt"]


@pytest.mark.parametrize("change", ["vanished", "changed", "added"])
def test_data_that_are_no_longer_those_of_the_run_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    run.keep(*run.names)
    path = run.data / run.names[0]
    if change == "vanished":
        path.unlink()
    else:
        path = path.with_name("new.png") if change == "added" else path
        Image.new("RGB", (9, 9)).save(path)
    message = refused(run, capsys)
    assert "had other data" in message
    assert not run.target.exists()


def test_what_goes_wrong_while_copying_leaves_nothing(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.keep(*run.names)

    def full(source: Path, target: Path) -> None:
        if source.name == "d.png":
            raise OSError(28, "No space left on device", str(target))
        shutil.copyfile(source, target)

    monkeypatch.setattr(clean.shutil, "copy2", full)
    message = refused(run, capsys, code=1)
    assert "No space left on device" in message
    assert f"nothing is left in {run.target}" in message
    assert list(run.target.iterdir()) == []
    monkeypatch.undo()
    assert run.export() == 0  # so it can be tried again
    assert len(run.written()) == 5


def test_files_that_lie_elsewhere_go_to_their_classs_folder() -> None:
    training = TrainingSet(torch.zeros(0), torch.zeros(0), ("20 km/h", "train"))
    assert training.num_classes == 2
    file = "GTSRB/Final_Training/Images/00000/00001_00002.ppm"
    assert place_in_class(file, "20 km/h", "20 km_h") == Path("20 km_h/00001_00002.ppm")
    assert place_in_class("train/train/x/a.png", "train", "train") == Path("train/x/a.png")
    assert place_in_class("cat/cat/a.png", "cat", "cat") == Path("cat/cat/a.png")


def test_a_list_that_is_a_pipe_is_refused_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, "train")
    run.keep()
    (run.folder / "report" / "purified.txt").unlink()
    os.mkfifo(run.folder / "report" / "purified.txt")
    assert run.export() == 2
    assert "no regular file" in capsys.readouterr().err
    assert not run.target.exists()


@pytest.fixture
def with_seeds(run: Run) -> Run:
    """Verified images, two of which would come to lie where a training image does."""
    names = ("cat", "Ku\u0308he 日本")  # the second in a Mac's spelling
    for number, name in enumerate(names):
        path = run.data / "seeds" / name / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(colourful_images(1, 9, 50 + number)[0].numpy()).save(path)
    place = run.data / "train" / "cat" / "seeds" / "a.png"
    place.parent.mkdir()
    Image.fromarray(colourful_images(1, 9, 60)[0].numpy()).save(place)
    run.names += [f"seeds/{name}/a.png" for name in names] + ["train/cat/seeds/a.png"]
    write_manifest(run.folder, run.arguments[4:])
    return run


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_image_is_written_over_another(with_seeds: Run, layout: str) -> None:
    run = with_seeds
    run.keep(*run.names)
    run.arguments += ["--layout", layout]
    assert run.export() == 0
    written = [path.read_bytes() for path in run.target.rglob("*.*") if path.suffix != ".md"]
    assert sorted(written) == sorted((run.data / name).read_bytes() for name in run.names)


def test_a_review_counts_that_the_report_did_not_know(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.keep(*run.names[:3])
    review = tmp_path / "review.csv"
    run.arguments.append(f"review={review}")
    review.write_text(f"file,verdict\n{run.names[1]},poisoned\n{run.names[3]},clean\n")
    assert run.export() == 0
    assert run.written() == sorted([FILES[0], FILES[2], FILES[3]])
    assert "1 images are left out, and 1 added" in capsys.readouterr().out
    rows = "".join(f"{name},poisoned\n" for name in run.names[:3])
    review.write_text(f"file,verdict\n{rows}")
    run.target = tmp_path / "again"
    assert "calls all images poisoned" in refused(run, capsys)


def test_nothing_is_written_into_the_data_set(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.keep(*run.names)
    for place in ("train/clean", "clean"):
        run.target = run.data / place
        assert "the data set's own folder" in refused(run, capsys)
        assert not run.target.exists()

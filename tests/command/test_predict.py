"""`--predict`: the pixels of training, everything named as given, and nothing lost."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ASD
from command import prediction as predict
from command.prediction import find_images, predict_files
from config.schema import Config
from data.dataset import Request, Split
from data.dataset.decode import Frame, read_image
from data.dataset.image_folder import ImageFolder
from data.dataset.settings import DataSection
from data.transform.build import before_trigger, build_chain
from model import NETWORKS, Network, build_network
from run.measure import predictions
from run.product import DESCRIPTION, WEIGHTS, Description, FrameSection, load_model, save_model
from tests.conftest import DIGITS, colourful_images
from tests.data.every_kind import BROKEN, MAKERS
from utils.engine import Engine

CLASSES = ["cat", "dog", "Kühe"]
SIZE, SHORTER_SIDE, CROP = 12, 14, 10  # pixels
TRANSFORM = {
    "pre": {"resize": {"size": 11}},
    "test": {
        "primary": {"center_crop": {"size": CROP}},
        "remaining": {"normalize": {"mean": [0.2, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}},
    },
}
NOISY = 5
COUNT = len(MAKERS) + NOISY
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `storage_dir` in which `digits` holds an untrained model and nothing else."""
    folder = tmp_path_factory.mktemp("storage")
    config = Config.model_validate(
        {"network": {"resnet18_cifar": {"width": 4}}, "transform": TRANSFORM}
    )
    description = Description(
        network=config.network,
        classes=CLASSES,
        input_size=[CROP, CROP],
        mean=[0.2, 0.5, 0.6],
        std=[0.1, 0.2, 0.3],
        frame=FrameSection(size=SIZE, shorter_side=SHORTER_SIDE),
        transform=config.transform,
    )
    network = NETWORKS.get("resnet18_cifar")
    built = build_network(network, config.network.settings, len(CLASSES), 0)
    (folder / "digits").mkdir()
    save_model(folder / "digits", built, description)
    return folder


@pytest.fixture
def model(storage: Path) -> tuple[Network, Description]:
    return load_model(storage / "digits")


@pytest.fixture
def arguments(storage: Path) -> list[str]:
    return ["--config", str(DIGITS), "--gpu", "cpu", f"storage_dir={storage}"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Files of every format and mode, in folders with odd names; hidden ones beside them."""
    root = tmp_path / "some images"
    for number, (name, write) in enumerate(MAKERS.items()):
        folder = root / ("日本 a" if number % 2 else "below/it")
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{number:02} ü {name[:4]}", (9 + number, 30 - number))
    for number in range(NOISY):
        noise = colourful_images(1, 20 + number, number)[0, 3 * number :]
        Image.fromarray(noise.numpy()).save(root / "below" / f"noise {number}.png")
    for hidden in (".hidden.png", ".folder/a.png"):
        (root / hidden).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(root / hidden, format="PNG")
    (root / "link").symlink_to(root / "below")
    return root


def outcome(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = ASD.main(arguments)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = outcome(capfd, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Traceback" not in err
    return err


def test_a_file_has_the_pixels_that_the_data_set_would_give_it(
    images: Path, tmp_path: Path, model: tuple[Network, Description]
) -> None:
    network, description = model
    section = DataSection(image_size=SIZE, resize=SHORTER_SIDE)
    data = ImageFolder().load(Request(str(images), section, tmp_path / "cache"))
    assert data.frame == Frame(SIZE, SHORTER_SIDE)
    assert len(data.train) == COUNT
    stored = before_trigger(data.train, description.transform).images.float() / 255
    assert stored.shape[1:3] == (11, 11)
    normalize = description.transform.test.remaining.normalize
    views = (stored - torch.tensor(normalize.mean)) / torch.tensor(normalize.std)
    views = views[:, :CROP, :CROP].permute(0, 3, 1, 2)  # round(1 / 2) is 0
    with torch.no_grad():
        expected = network(views).softmax(dim=1)
    assert data.train.files is not None
    files = [str(images / file) for file in data.train.files]
    found, unreadable = predict_files(files, network, description, CPU)
    assert unreadable == []
    assert [item.file for item in found] == files
    assert [CLASSES.index(item.label) for item in found] == expected.argmax(dim=1).tolist()
    probabilities = torch.tensor([item.probability for item in found])
    assert torch.allclose(probabilities, expected.max(dim=1).values, atol=1e-5)
    assert len(set(probabilities.tolist())) > 5


def test_folders_are_searched_and_files_named_as_given(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    found = find_images(["some images/", "some images/.hidden.png"], Counter())
    assert len(found) == COUNT + 1
    assert found[-1] == "some images/.hidden.png"  # named, so meant
    assert found[:-1] == sorted(found[:-1])
    assert all(
        file.startswith(("some images/below/", "some images/日本 a/")) for file in found[:-1]
    )


def test_json_is_all_that_is_printed(
    images: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = outcome(capfd, *arguments, "--json", "--predict", str(images))
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [item["file"] for item in found] == find_images([str(images)], Counter())
    for item in found:
        assert list(item) == ["file", "label", "probability"]
        assert item["label"] in CLASSES
        assert 1 / len(CLASSES) <= item["probability"] <= 1


def test_the_table_has_a_row_for_each_file(
    images: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    files = find_images([str(images)], Counter())[:3]
    code, out, _ = outcome(capfd, *arguments, "--predict", *files)
    assert code == 0
    header, _, *rows = out.splitlines()
    assert header.split() == ["|", "file", "|", "label", "|", "probability", "|"]
    assert [row.split(" | ")[0].removeprefix("| ").strip() for row in rows] == files


def test_names_that_are_no_text_are_written_out_for_people_and_whole_for_programs(
    tmp_path: Path, arguments: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    name = os.fsencode(tmp_path) + b"/\xff  two.png"
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", name)
    assert ASD.main([*arguments, "--predict", str(tmp_path)]) == 0
    assert os.fsencode(tmp_path) + rb"/\xff  two.png" in capfdbinary.readouterr().out
    assert ASD.main([*arguments, "--json", "--predict", str(tmp_path)]) == 0
    (found,) = json.loads(capfdbinary.readouterr().out)
    assert os.fsencode(found["file"]) == name


def test_unreadable_files_are_named_and_the_others_labelled(
    tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for name, broken in BROKEN.items():
        broken(tmp_path / name)
    for name in ("a.png", "z.png"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    code, out, err = outcome(capfd, *arguments, "--json", "--predict", str(tmp_path))
    assert code == 2
    assert [Path(item["file"]).name for item in json.loads(out)] == ["a.png", "z.png"]
    assert err.count("\n") == 1
    assert "8 of 10 images cannot be read" in err
    assert str(tmp_path / min(BROKEN)) in err
    assert all(name in err for name in sorted(BROKEN)[:3])
    assert sorted(BROKEN)[3] not in err
    code, out, err = outcome(capfd, *arguments, "--json", "--predict", str(tmp_path / "empty.png"))
    assert (code, json.loads(out)) == (2, [])
    assert "1 of 1 images" in err


def test_batches_change_nothing(
    images: Path, model: tuple[Network, Description], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = find_images([str(images)], Counter())
    whole, _ = predict_files(files, *model, CPU)
    monkeypatch.setattr(predict, "BATCH", 8)
    assert len(files) % 8
    parts, _ = predict_files(files, *model, CPU)
    assert [(item.file, item.label) for item in parts] == [
        (item.file, item.label) for item in whole
    ]
    for one, other in zip(parts, whole, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_what_is_left_out_of_a_folder_is_counted_on_stderr(
    tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpeg_large", format="JPEG")
    for name in ("b.heic", "c.HEIC", "d.txt"):
        (tmp_path / name).write_text("x")
    code, out, err = outcome(capfd, *arguments, "--json", "--predict", str(tmp_path))
    assert code == 0 and len(json.loads(out)) == 1
    assert err.startswith("--predict: 3 files are left out") and "(2 .heic, 1 .txt)" in err
    (tmp_path / "broken.png").write_text("x")
    code, _, err = outcome(capfd, *arguments, "--json", "--predict", str(tmp_path))
    assert code == 2 and "broken.png" in err and err.count("\n") == 1


def test_wrong_paths_are_one_clear_line(
    tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "no file or folder 'nowhere.png'" in refused(
        capfd, *arguments, "--predict", "nowhere.png"
    )
    assert f"'{tmp_path}' holds no images" in refused(capfd, *arguments, "--predict", str(tmp_path))
    assert "--predict" in refused(capfd, *arguments, "--predict")
    assert "--json" in refused(capfd, *arguments, "--json")


def test_without_a_model_a_line_says_what_makes_it(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(DIGITS), f"storage_dir={tmp_path}", "--predict", str(images)]
    message = refused(capfd, *given)
    assert str(tmp_path / "digits" / DESCRIPTION) in message
    # The command as it was given, or in words where that is long.
    assert f"--config {DIGITS}" in message or "this command without --predict" in message
    assert "trains to the end" in message
    assert not (tmp_path / "digits").exists()


def test_neither_data_nor_checkpoint_is_needed(
    storage: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert {path.name for path in (storage / "digits").iterdir()} == {WEIGHTS, DESCRIPTION}
    given = ["--config", "config/baseline_asd.yaml", "--gpu", "cpu", "--name", "digits"]
    given += [f"storage_dir={storage}", "dataset_dir=/nowhere"]
    code, out, err = outcome(capfd, *given, "--json", "--predict", str(images))
    assert (code, err) == (0, "")
    assert len(json.loads(out)) == COUNT


def test_a_reader_may_close_the_pipe(
    images: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert ASD.main([*arguments, "--predict", str(images)]) == 0
        print("what is printed later goes nowhere")


def test_random_steps_of_a_test_chain_are_drawn_as_in_evaluation(
    images: Path, model: tuple[Network, Description]
) -> None:
    network, description = model
    test: Any = {**TRANSFORM["test"], "primary": {"random_crop": {"size": CROP}}}
    config = Config.model_validate({"transform": {**TRANSFORM, "test": test}})
    description = description.model_copy(update={"transform": config.transform})
    files = find_images([str(images)], Counter())
    found, _ = predict_files(files, network, description, CPU)
    plain, _ = predict_files(files, *model, CPU)
    assert found != plain
    stored = np.stack([read_image(Path(file), Frame(SIZE, SHORTER_SIDE)) for file in files])
    split = Split(torch.from_numpy(stored), torch.zeros(len(files), dtype=torch.int64))
    split = before_trigger(split, config.transform)
    chain = build_chain("test", config.transform.test, *split.images.shape[1:3])
    labels = predictions(network, split.images, chain, Engine(CPU), 500)
    assert [CLASSES.index(item.label) for item in found] == labels.tolist()

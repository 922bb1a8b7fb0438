"""The kept poisoned set: believed only where it fits the data, made by one process at a time."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load, save

from data.attack.wanet import WaNet
from data.build import poison_data
from data.dataset import ImageData, Split
from data.kept import DIGEST_SIZE, POISON_FILE
from data.poison import TrainingSet, Truth
from tests.conftest import colourful_images, tiny_config
from tests.processes import run_together
from utils import files
from utils.streams import Streams


def small_data() -> ImageData:
    split = Split(colourful_images(100, 16), torch.arange(100) % 10)
    return ImageData(split, split, tuple("abcdefghij"))


DATA = small_data()


def make(folder: Path) -> tuple[TrainingSet, Truth]:
    config = tiny_config("backdoor.wanet.s=1.0", f"storage_dir={folder}").config
    return poison_data(config, DATA, Streams(0))


def kept_file(folder: Path) -> Path:
    (file,) = folder.glob(f"cache/*/{POISON_FILE}")
    return file


def write_valid(file: Path, body: bytes) -> None:
    """Write other content with the checksum that belongs to it."""
    file.write_bytes(hashlib.sha256(body).digest() + body)


def tensors(**changes: Any) -> Callable[[Path], None]:
    """Return what changes some tensors; None takes one away."""

    def change(file: Path) -> None:
        content = load(file.read_bytes()[DIGEST_SIZE:])
        for name, given in changes.items():
            content[name] = given(content[name]).contiguous() if given else None
        write_valid(file, save({name: part for name, part in content.items() if part is not None}))

    return change


def pickled(file: Path) -> None:
    """A file of the earlier format, which was PyTorch's."""
    buffer = io.BytesIO()
    torch.save({"roles": torch.zeros(100, dtype=torch.uint8)}, buffer)
    write_valid(file, buffer.getvalue())


def sparse(file: Path) -> None:
    with open(file, "wb") as stream:
        stream.truncate(200 * 2**30)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


OTHER: dict[str, Callable[[Path], None]] = {
    "a pickle": pickled,
    "a claim of much": lambda file: write_valid(file, (2**62).to_bytes(8, "little") + b"{}"),
    "no JSON": lambda file: write_valid(file, (2).to_bytes(8, "little") + b"[["),
    "nothing": lambda file: write_valid(file, b""),
    "a tensor less": tensors(labels=None),
    "roles of another set": tensors(roles=lambda roles: roles[:50]),
    "roles that are none": tensors(roles=lambda roles: roles * 9),
    "more roles than images": tensors(roles=torch.ones_like),
    "labels of floats": tensors(labels=lambda labels: labels.float()),
    "labels beyond the classes": tensors(labels=lambda labels: labels + 10),
    "labels below zero": tensors(labels=lambda labels: labels - 10),
    "labels in two dimensions": tensors(labels=lambda labels: labels[:, None]),
    "images of another size": tensors(images=lambda images: images[:, :8]),
    "images of floats": tensors(images=lambda images: images.half()),
    "test images without labels": tensors(test_labels=lambda labels: labels[:3]),
    "test labels without a dimension": tensors(test_labels=lambda labels: labels[0]),
    "test labels beyond the classes": tensors(test_labels=lambda labels: labels + 10),
    "an endless file": sparse,
    "a pipe": pipe,
}


@pytest.mark.parametrize("kind", OTHER)
def test_other_content_with_a_valid_checksum_is_made_anew(tmp_path: Path, kind: str) -> None:
    training, truth = make(tmp_path)
    OTHER[kind](kept_file(tmp_path))
    for _ in range(2):  # made anew, and then read
        again, truth_again = make(tmp_path)
        assert torch.equal(again.images, training.images)
        assert torch.equal(again.labels, training.labels)
        assert truth_again.fingerprint() == truth.fingerprint()


# ------------------------------------------------------------------------------- two runs (B3)


def make_and_tell(folder: Path, told: Path) -> None:
    """Leave what was made in `told`, and beside it a file more if this process made it."""
    prepare = WaNet.prepare

    def counting(*arguments: Any) -> None:
        told.with_suffix(".made").touch()
        prepare(*arguments)

    WaNet.prepare = counting  # type: ignore[method-assign]
    told.write_text(make(folder)[1].fingerprint())


def test_runs_that_start_together_make_it_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.mkdir()
    calls = [(tmp_path, told / str(number)) for number in range(3)]
    assert run_together(make_and_tell, calls) == [0, 0, 0]
    assert len(list(told.glob("*.made"))) == 1
    found = {(told / str(number)).read_text() for number in range(3)}
    assert found == {make(tmp_path)[1].fingerprint()}


def test_what_was_made_is_read_without_the_lock(tmp_path: Path) -> None:
    fingerprint = make(tmp_path)[1].fingerprint()
    other = FileLock(kept_file(tmp_path).parent / files.LOCK)
    with other:
        assert make(tmp_path)[1].fingerprint() == fingerprint

"""The kept poisoned set: believed only where it fits the data, made by one process at a time."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
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
from utils import files
from utils.streams import Streams

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


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


def make_and_tell(folder: Path, results: Any) -> None:
    prepare = WaNet.prepare

    def counting(*arguments: Any) -> None:
        results.put("made")
        prepare(*arguments)

    WaNet.prepare = counting  # type: ignore[method-assign]
    results.put(make(folder)[1].fingerprint())


def test_runs_that_start_together_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=make_and_tell, args=(tmp_path, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=200) for _ in range(4)]
    for worker in workers:
        worker.join()
    assert sorted(told)[-1] == "made" and told.count("made") == 1
    assert set(told) - {"made"} == {make(tmp_path)[1].fingerprint()}


def test_what_was_made_is_read_without_the_lock(tmp_path: Path) -> None:
    fingerprint = make(tmp_path)[1].fingerprint()
    other = FileLock(kept_file(tmp_path).parent / files.LOCK)
    with other:
        assert make(tmp_path)[1].fingerprint() == fingerprint

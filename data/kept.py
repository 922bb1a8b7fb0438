"""The poisoned set that an attack made, kept on the disk for the next run.

The file begins with the SHA-256 of the rest, which is in the format of safetensors: names, types
and shapes of tensors, and their bytes. It is believed only as far as it fits the clean data.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data.dataset import ImageData, Split
from data.poison import Role, TrainingSet, Truth
from utils.files import write_atomically

POISON_FILE = "poison.bin"
DIGEST_SIZE = 32
HEADER_SIZE = 2**16  # bytes, far more than the names and shapes of five tensors take


def write_poison(path: Path, training: TrainingSet, truth: Truth) -> None:
    """Keep what an attack made: the changed training images, and the triggered test set."""
    changed = torch.nonzero(truth.roles).flatten()
    assert truth.triggered_test is not None
    content = {
        "roles": truth.roles,
        "images": training.images[changed],
        "labels": training.labels,
        "test_images": truth.triggered_test.images,
        "test_labels": truth.triggered_test.labels,
    }
    body = save({name: tensor.contiguous() for name, tensor in content.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(hashlib.sha256(body).digest() + body))


def read_poison(path: Path, data: ImageData) -> tuple[TrainingSet, Truth] | None:
    """Return what `write_poison` kept; None where there is nothing, or something else."""
    content = read_content(path, data)
    if content is None or not fits(content, data):
        return None
    images = data.train.own_copy()
    images[torch.nonzero(content["roles"]).flatten()] = content["images"]
    triggered = Split(content["test_images"], content["test_labels"])
    truth = Truth(content["roles"], data.train.labels, data.test, triggered)
    training = TrainingSet(images, content["labels"], data.classes, files=data.train.files)
    return training, truth


def read_content(path: Path, data: ImageData) -> dict[str, Tensor] | None:
    """Return the tensors in the file; None unless it is whole and as large as it may be."""
    most = sum(part.images.numel() + 9 * len(part) for part in (data.train, data.test))
    try:
        # A pipe would keep its reader waiting, and a file of another set may exceed the memory.
        if not path.is_file() or path.stat().st_size > most + HEADER_SIZE:
            return None
        whole = path.read_bytes()
        # A changed byte within a tensor would be noticed by nobody, and go into every result.
        if hashlib.sha256(whole[DIGEST_SIZE:]).digest() != whole[:DIGEST_SIZE]:
            return None
        return load(whole[DIGEST_SIZE:])
    # KeyError, ValueError: types that PyTorch has no name for, and shapes that it cannot have.
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        return None


def fits(content: dict[str, Tensor], data: ImageData) -> bool:
    """Return whether tensors are what an attack can have made of `data`."""
    names = {"roles", "images", "labels", "test_images", "test_labels"}
    if set(content) != names:
        return False
    roles, labels, test_labels = content["roles"], content["labels"], content["test_labels"]
    count, tested = len(data.train), len(test_labels) if test_labels.dim() == 1 else -1
    expected = {
        "roles": (torch.uint8, (count,)),
        "images": (torch.uint8, (int((roles != 0).sum()), *data.train.images.shape[1:])),
        "labels": (torch.int64, (count,)),
        "test_images": (torch.uint8, (tested, *data.test.images.shape[1:])),
        "test_labels": (torch.int64, (tested,)),
    }
    for name, (dtype, shape) in expected.items():
        if content[name].dtype != dtype or tuple(content[name].shape) != shape:
            return False
    in_range = all(
        not len(given) or 0 <= int(given.min()) <= int(given.max()) < data.num_classes
        for given in (labels, test_labels)
    )
    return in_range and tested <= len(data.test) and int(roles.max()) <= max(Role)

"""Shared by all tests: small data, small configurations, and where the real data are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Tests in several processes (`-n`): a thread for each, also in the runs that a test starts, since
# more threads than cores slow each other down twentyfold. PyTorch reads it when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# No test downloads weights, and none depends on whether it could.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from hypothesis import settings

from config.load import Loaded, load_config
from data.dataset import ImageData, Split
from training.mixmatch import MixMatch
from utils.files import PROJECT

# The same examples at every run, and no time limit on one: the machine may be busy.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

DIGITS = PROJECT / "tests" / "config" / "digits.yaml"  # the published algorithm

# A run of seconds that still has all three stages, on 300 real digits and a width of 4.
TINY = (
    "data.train_samples=300",
    "network={fastnet: {width: 4}}",
    "semi.mixmatch.train_iteration=3",
    "semi.loader.batch_size=16",
    "num_epochs=9",
    "global.epoch_first=3",
    "global.epoch_second=6",
    "global.epoch_third=9",
    "global.t=1",
    "global.n=2",
    "global.seed_num=5",
    "meta.epoch=1",
    "report=false",
)


# The published network, in the same size: three times the operations.
RESNET = "network={resnet18_cifar: {width: 4}}"


# What may stand where a file is expected, by its kind.
NO_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "circle": lambda path: path.symlink_to(path),
}


def tiny_config(*overrides: str) -> Loaded:
    """Return the configuration of a run of seconds."""
    return load_config(DIGITS, [*TINY, *overrides])


@pytest.fixture
def tiny_arguments(tmp_path: Path) -> list[str]:
    """The command line of a run of seconds, its folder in `tmp_path`."""
    return ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={tmp_path}"]


@pytest.fixture
def cifar10_folder() -> str:
    """Where the real CIFAR-10 is; the test is skipped without it."""
    folder = os.environ.get("ASD_DATA_DIR")
    if not folder:
        pytest.skip("ASD_DATA_DIR does not name a folder with the real CIFAR-10")
    if not (Path(folder) / "cifar-10-batches-py").is_dir():
        pytest.skip(f"ASD_DATA_DIR={folder} has no cifar-10-batches-py")
    return folder


def colourful_images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Return random images (count, size, size, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def learnable_data(count: int = 64, size: int = 8) -> ImageData:
    """Noise on a brightness that tells the class, so that there is something to learn."""
    labels = torch.arange(count) % 4
    images = colourful_images(count, size) // 4 + (labels * 60)[:, None, None, None].byte()
    split = Split(images, labels)
    return ImageData(split, Split(images.flip(2), labels), tuple("abcd"))


def interrupted(function: Callable[..., None], at_call: int) -> Callable[..., None]:
    """Return `function`, whose `at_call`th call, from 1, does its work and is not come back from.

    For an epoch of a training: it is killed after its last step, before anything is kept.
    """
    calls = [0]

    def call(*given: Any) -> None:
        calls[0] += 1
        function(*given)
        if calls[0] == at_call:
            raise KeyboardInterrupt

    return call


def stopped(function: Callable[..., Any], at_call: int) -> Callable[..., Any]:
    """Return `function`, whose `at_call`th call, from 1, is interrupted before it does anything."""
    calls = [0]

    def call(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == at_call:
            raise KeyboardInterrupt
        return function(*given)

    return call


@contextmanager
def killed_before_step(at: int) -> Iterator[None]:
    """Let what trains inside be killed before its MixMatch step number `at`, from 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixMatch, "step", stopped(MixMatch.step, at))
        with pytest.raises(KeyboardInterrupt):
            yield

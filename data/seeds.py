"""The verified clean samples from which stage 1 starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.poison import TrainingSet
from utils.errors import InputError
from utils.files import find_file
from utils.streams import Streams

if TYPE_CHECKING:
    from config.schema import GlobalSection


def verified_seeds(
    schedule: GlobalSection, training: TrainingSet, clean: Tensor, streams: Streams
) -> Tensor:
    """Return the verified samples, as sorted indices: those of a file, or drawn as in the paper."""
    if schedule.seed_indices is not None:
        return read_seeds(schedule.seed_indices, training, schedule.seed_num)
    return draw_seeds(training, clean, schedule.seed_num, streams)


def draw_seeds(training: TrainingSet, clean: Tensor, count: int, streams: Streams) -> Tensor:
    """Return `count` truly clean samples of each class, as indices (C * count,), sorted.

    This stands for a person who checks samples by hand, as in the paper; it is the one place where
    the truth (`clean`, (N,) bool) reaches the defence.

    Raises:
        InputError: a class has fewer clean samples.
    """
    generator = streams.torch("seeds")
    chosen = []
    for label, name in enumerate(training.classes):
        candidates = torch.nonzero((training.labels == label) & clean).flatten()
        if len(candidates) < count:
            raise InputError(
                f"global.seed_num: {count} asked for, but class {name!r} has "
                f"{len(candidates)} clean samples"
            )
        order = torch.randperm(len(candidates), generator=generator)
        chosen.append(candidates[order[:count]])
    return torch.cat(chosen).sort().values


def read_seeds(path: str, training: TrainingSet, count: int) -> Tensor:
    """Return the verified samples that a file lists, as indices, sorted.

    Args:
        path: `.npy` with integers, or a text file with one 0-based index a line or separated by
            commas; `#` starts a comment.
        training: the set that they belong to.
        count: how many each class must have at least.

    Raises:
        InputError: unreadable, out of range, listed twice, or too few of a class.
    """
    key = "global.seed_indices"
    file = find_file(path, key)
    indices = torch.from_numpy(read_indices(file, key))
    wrong = indices[(indices < 0) | (indices >= len(training))]
    if len(wrong):
        raise InputError(
            f"{key}: {file} names sample {wrong[0]}, there are 0 to {len(training) - 1}"
        )
    if len(indices.unique()) < len(indices):
        raise InputError(f"{key}: {file} names a sample twice")
    found = torch.bincount(training.labels[indices], minlength=training.num_classes)
    if int(found.min()) < count:
        name = training.classes[int(found.argmin())]
        raise InputError(
            f"{key}: {file} has {int(found.min())} samples of class {name!r}, "
            f"global.seed_num wants {count}"
        )
    return indices.sort().values


def read_indices(file: Path, key: str) -> NDArray[np.int64]:
    """Return the integers in a `.npy` or text file as (n,) int64."""
    try:
        if file.suffix == ".npy":
            array = np.load(file, allow_pickle=False).ravel()
            if not np.issubdtype(array.dtype, np.integer):
                raise ValueError(f"it holds {array.dtype}, not integers")
            return array.astype(np.int64)
        lines = (line.partition("#")[0] for line in file.read_text().splitlines())
        words = " ".join(lines).replace(",", " ").split()
        return np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OSError) as error:
        raise InputError(f"{key}: {file} cannot be read as sample numbers ({error})") from error

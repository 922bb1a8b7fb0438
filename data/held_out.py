"""Verified samples that are held out of training and measure ACC, where there is no test set.

Of each class what lies beyond `global.seed_num`, at most a third. With `seed_num: auto` it is a
third. What has the same pixels as a held-out sample leaves training with it: else ACC would be
measured, in part, on what was trained on.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from data.dataset import ImageData
from data.twins import pixel_hashes, twins
from utils.errors import InputError
from utils.memory import free_bytes
from utils.streams import Streams

SHARE = 3  # at most one of so many verified samples of a class is held out


def refuse_too_large(data: ImageData) -> None:
    """Raise `InputError` if a changed copy of the training images has no room in memory.

    As they are, they may stay in their file, however large it is.
    """
    needed, free = data.train.images.numel(), free_bytes(torch.device("cpu"))
    if data.train.mapped_from is not None and needed > free:
        raise InputError(
            f"dataset_dir: {needed / 2**30:.1f} GiB of images, and {free / 2**30:.1f} GiB of "
            f"memory are free; for a set larger than memory put test images into test/<class>/, "
            f"so that nothing is held out, and list verified samples in global.seed_indices"
        )


def choose_held_out(data: ImageData, seeds: Tensor, asked: int | str, streams: Streams) -> Tensor:
    """Return which of the verified samples measure ACC, as places in `seeds`, (m,) int64.

    Of verified samples with the same pixels only the first counts.
    """
    generator = streams.torch("held-out")
    labels, first = data.train.labels[seeds], first_of_each(data, seeds)
    chosen = [torch.empty(0, dtype=torch.int64)]
    for label in range(data.num_classes):
        places = torch.nonzero((labels == label) & first).flatten()
        most = len(places) // SHARE
        count = most if isinstance(asked, str) else min(most, len(places) - asked)
        order = torch.randperm(len(places), generator=generator)
        chosen.append(places[order[: max(count, 0)]])
    return torch.cat(chosen).sort().values


def first_of_each(data: ImageData, seeds: Tensor) -> Tensor:
    """Return which of the samples `seeds` (n,) have pixels that none before them has, (n,) bool."""
    known: dict[bytes, int] = {}
    hashes = pixel_hashes(data.train.picked(seeds))
    places = [known.setdefault(own, place) == place for place, own in enumerate(hashes)]
    return torch.tensor(places, dtype=torch.bool)


def hold_out(data: ImageData, seeds: Tensor, places: Tensor) -> tuple[ImageData, Tensor, list[str]]:
    """Move the verified samples `places` of `seeds` from the training to the test set.

    Returns:
        The changed data, the verified samples that remain in it, and lines to say. Where no sample
        is held out, the data are as they were.
    """
    if not len(places):
        line = (
            f"ACC is not measured: there is no test/, and none of the {len(seeds)} verified "
            f"samples can be held out (a third of a class, if global.seed_num remain)"
        )
        return data, seeds, [line]
    refuse_too_large(data)
    test = data.train.picked(seeds[places])
    same = [index for found in twins(data.train, pixel_hashes(test)).values() for index in found]
    kept = torch.ones(len(data.train), dtype=torch.bool)
    kept[torch.tensor(same)] = False
    moved = kept.cumsum(0) - 1  # the new place of each sample that stays
    remaining = seeds[kept[seeds]]
    lines = [
        f"ACC is measured on {len(places)} verified samples that are held out of training, since "
        f"there is no test/; {len(remaining)} remain as seeds"
    ]
    if len(same) > len(places):
        lines.append(
            f"{len(same) - len(places)} training images are held-out ones, pixel for pixel, and "
            f"leave training with them"
        )
    changed = data.trained_on(data.train.picked(torch.nonzero(kept).flatten()))
    return replace(changed, test=test), moved[remaining], lines

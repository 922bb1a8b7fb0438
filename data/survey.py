"""A look at a data set before it is decoded: what `auto` has to know."""

from __future__ import annotations

import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.build import dataset_name, image_cache
from data.dataset import DATASETS, Request
from data.dataset.image_folder import ImageFolder
from data.dataset.picture import UnreadableImage, opened
from data.settings import DataSettings

PROBED = 400  # files whose header is read, evenly spaced over the set


@dataclass(frozen=True)
class Facts:
    """What the choice depends on.

    Attributes:
        samples: in the training set.
        smallest_class: samples in it.
        side: median of the images' shorter sides, in pixels.
        gpu: whether the run is on one.
        scalable: whether the data set is decoded to any `data.image_size`.
    """

    samples: int
    smallest_class: int
    side: int
    gpu: bool = False
    scalable: bool = True


def survey(config: DataSettings, device: torch.device) -> Facts:
    """Return what is known of the data without their pixels.

    Args:
        config: whose data set is meant; what is `auto` in it is not read.
        device: of the run.

    Raises:
        InputError: the data set is not there or has no two classes.
    """
    name, _ = dataset_name(config)
    source = DATASETS.get(name)
    request = Request(config.dataset_dir, config.data, image_cache(config))
    if issubclass(source, ImageFolder):
        listing = source.list_training(request)
        paths = [listing.root / file for file in listing.files]
        labels, side = torch.tensor(listing.labels), median_side(paths)
    else:
        train = source().load(request).train
        labels, side = train.labels, min(train.images.shape[1:3])
    samples = len(labels) if config.data.train_samples is None else config.data.train_samples
    scalable = "image_size" in source.settings_read
    share = samples / max(len(labels), 1)
    return Facts(
        samples=min(samples, len(labels)),
        smallest_class=max(int(smallest(labels) * min(share, 1)), 1),
        side=side,
        gpu=device.type == "cuda",
        scalable=scalable,
    )


def smallest(labels: Tensor) -> int:
    """Return the number of samples in the smallest class."""
    return int(torch.bincount(labels).min())


def median_side(paths: list[Path]) -> int:
    """Return the median of the images' shorter sides, in pixels, from the headers of some."""
    step = -(-len(paths) // PROBED) or 1
    sides = [side for path in paths[::step] if (side := shorter_side(path)) is not None]
    return round(statistics.median_low(sides)) if sides else 1


def shorter_side(path: Path) -> int | None:
    """Return an image's shorter side in pixels; None where its header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images
            with opened(path) as image:
                return min(image.size)
    except UnreadableImage:  # decoding says which files are damaged, and how
        return None

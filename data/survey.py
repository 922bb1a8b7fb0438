"""A look at a data set before it is decoded: what `auto` has to know."""

from __future__ import annotations

import statistics
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.build import dataset_name, image_cache
from data.dataset import DATASETS, Request
from data.dataset.image_folder import ImageFolder
from data.dataset.picture import UnreadableImage, opened
from data.settings import DataSettings
from model.backbone import Backbone, find_backbone

SMALLEST_PHOTOGRAPH = 32  # pixels
MOST_ON_CPU = 10_000  # samples
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
        backbone: a network with weights learnt elsewhere, if one was looked for.
    """

    samples: int
    smallest_class: int
    side: int
    gpu: bool = False
    scalable: bool = True
    backbone: Backbone | None = None

    @property
    def suits_backbone(self) -> bool:
        """Whether weights that were learnt on photographs would help these images, in time.

        Smaller images show too little of what such weights know. On a CPU every look at a larger
        set would take minutes.
        """
        fits = self.scalable and self.side >= SMALLEST_PHOTOGRAPH
        return fits and (self.gpu or self.samples <= MOST_ON_CPU)

    def with_backbone(self) -> Facts:
        """Return the same with a look for a network that has learnt elsewhere, where it suits."""
        if self.suits_backbone:
            return replace(self, backbone=find_backbone(self.gpu))
        why = (
            f"weights of ImageNet are for images of {SMALLEST_PHOTOGRAPH} pixels and more, and on "
            f"a CPU for at most {MOST_ON_CPU:,}"
        )
        return replace(self, backbone=Backbone(None, why))


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

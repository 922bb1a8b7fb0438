"""A look at a data set before it is decoded: what `auto` has to know."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.build import image_cache
from data.chosen_set import source_of
from data.dataset import Request
from data.settings import DataSettings
from model.backbone import Backbone, find_backbone

SMALLEST_PHOTOGRAPH = 32  # pixels
MOST_ON_CPU = 10_000  # samples


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
    source = source_of(config)
    outline = source().outline(Request(config.dataset_dir, config.data, image_cache(config)))
    labels = outline.labels
    samples = len(labels) if config.data.train_samples is None else config.data.train_samples
    scalable = "image_size" in source.settings_read
    share = samples / max(len(labels), 1)
    return Facts(
        samples=min(samples, len(labels)),
        smallest_class=max(int(smallest(labels) * min(share, 1)), 1),
        side=outline.side,
        gpu=device.type == "cuda",
        scalable=scalable,
    )


def smallest(labels: Tensor) -> int:
    """Return the number of samples in the smallest class."""
    return int(torch.bincount(labels).min())

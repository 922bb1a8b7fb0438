"""Transformations of the YAML's `transform`, by name, as batched tensor operations on the device.

To add one: a file with a subclass of `Transformation`, and a line in `TRANSFORMATIONS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from data.dataset import Split
from data.transform.chain import Chain, Draws, Normalize
from data.transform.transformation import Draw, Transformation
from utils.errors import InputError
from utils.registry import Registry

if TYPE_CHECKING:
    from config.schema import TransformSection


TRANSFORMATIONS: Registry[Transformation] = Registry(
    "transformation",
    {
        "random_crop": "data.transform.crop:RandomCrop",
        "random_resize_crop": "data.transform.random_resize_crop:RandomResizeCrop",
        "resize": "data.transform.resize:Resize",
        "center_crop": "data.transform.crop:CenterCrop",
        "random_horizontal_flip": "data.transform.flip:RandomHorizontalFlip",
        "random_color_jitter": "data.transform.one_by_one:RandomColorJitter",
        "random_grayscale": "data.transform.one_by_one:RandomGrayscale",
        "gaussian_blur": "data.transform.one_by_one:GaussianBlur",
    },
)

__all__ = [
    "TRANSFORMATIONS",
    "Chain",
    "Draw",
    "Draws",
    "Normalize",
    "Transformation",
    "before_trigger",
]


def before_trigger(split: Split, transform: TransformSection) -> Split:
    """Apply `transform.pre` (resize, centre crop) once, before any trigger."""
    if not transform.pre:
        return split
    images = split.images
    for choice in transform.pre:
        step = TRANSFORMATIONS.get(choice.name)(choice.settings)
        draw = step.draw(len(images), images.shape[1], images.shape[2], torch.Generator())
        if draw:
            raise InputError(
                f"transform.pre.{choice.name}: a random step cannot come before the trigger"
            )
        if not step.fits(images.shape[1], images.shape[2]):
            raise InputError(f"transform.pre.{choice.name}.size: larger than the image")
        images = step.apply(images, draw)
    return Split(images, split.labels, split.files)

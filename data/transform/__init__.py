"""Transformations of the YAML's `transform`, by name, as batched tensor operations on the device.

To add one: a file with a subclass of `Transformation`, and a line in `TRANSFORMATIONS`.
"""

from __future__ import annotations

from data.transform.chain import Chain, Draws, Normalize
from data.transform.transformation import Draw, Transformation
from utils.registry import Registry

TRANSFORMATIONS: Registry[Transformation] = Registry(
    "transformation",
    {
        "random_crop": "data.transform.crop:RandomCrop",
        "random_resize_crop": "data.transform.random_resize_crop:RandomResizeCrop",
        "resize": "data.transform.resize:Resize",
        "center_crop": "data.transform.crop:CenterCrop",
        "random_horizontal_flip": "data.transform.flip:RandomHorizontalFlip",
        "random_color_jitter": "data.transform.colour:RandomColorJitter",
        "random_grayscale": "data.transform.colour:RandomGrayscale",
        "gaussian_blur": "data.transform.blur:GaussianBlur",
        "cutout": "data.transform.cutout:Cutout",
    },
)

__all__ = [
    "TRANSFORMATIONS",
    "Chain",
    "Draw",
    "Draws",
    "Normalize",
    "Transformation",
]

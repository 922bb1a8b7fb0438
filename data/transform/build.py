"""From the YAML's choices to chains of transformations."""

from __future__ import annotations

import torch

from data.dataset import Split
from data.transform import TRANSFORMATIONS, Chain
from data.transform.settings import TransformSection, UseSection
from utils.errors import InputError
from utils.memory import free_bytes


def build_chain(key: str, section: UseSection, height: int, width: int) -> Chain:
    """Return the chain of transformations of `transform.<key>` for images of the given size.

    Raises:
        InputError: a crop is larger than what it is cut from.
    """
    steps = [TRANSFORMATIONS.get(step.name)(step.settings) for step in section.primary]
    chain = Chain(steps, section.remaining.normalize, height, width)
    for step, choice, size in zip(steps, section.primary, chain.sizes, strict=False):
        if not step.fits(*size):
            raise InputError(
                f"transform.{key}.primary.{choice.name}.size: larger than the image that it is cut "
                f"from, or padding that it cannot mirror ({size[1]}x{size[0]} pixels); change size "
                f"or padding"
            )
    return chain


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
        refuse_too_large(len(images), *step.output_size(*images.shape[1:3]), choice.name)
        images = step.apply(images, draw)
    return Split(images, split.labels, split.files)


def refuse_too_large(count: int, height: int, width: int, name: str) -> None:
    """Raise `InputError` if so many images of a size have no room in memory."""
    needed, free = 3 * count * height * width, free_bytes(torch.device("cpu"))
    if needed > free:
        raise InputError(
            f"transform.pre.{name}: {count:,} images of {width}x{height} pixels take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; lower size"
        )

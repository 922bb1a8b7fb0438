"""Images that are the same, pixel for pixel, whatever their files are called."""

from __future__ import annotations

from collections.abc import Iterable

from data.dataset import Split
from data.dataset.index import pixel_hash


def pixel_hashes(split: Split) -> list[bytes]:
    """Return a hash of the pixels of each image."""
    return [pixel_hash(image.data) for image in split.images.numpy()]


def twins(split: Split, hashes: Iterable[bytes]) -> dict[bytes, list[int]]:
    """Return, for each hash of an image, the samples of `split` with the same pixels."""
    found: dict[bytes, list[int]] = {wanted: [] for wanted in hashes}
    for index, own in enumerate(pixel_hashes(split)):
        if own in found:
            found[own].append(index)
    return found

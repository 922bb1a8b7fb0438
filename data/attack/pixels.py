"""What attacks that compute with pixels share: floats to bytes, chunks, pictures from files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data.dataset.picture import opened_for, resized
from utils.files import find_file

Rounding = Literal["floor", "round"]

# Pixels that are in float at the same time. The hungriest attack (a warp with a grid for each
# image) takes some 100 bytes a pixel: about 100 MB, whatever the size of the data set.
CHUNK_PIXELS = 2**20


def to_bytes(values: Tensor, rounding: Rounding = "round") -> Tensor:
    """Return float pixel values as uint8, clipped to 0..255.

    Args:
        values: any shape, float, in grey levels of 0..255.
        rounding: `round` to the nearest level (halves to the even one), or `floor`, which cuts the
            fraction off, as published code often does.
    """
    whole = values.floor() if rounding == "floor" else values.round()
    return whole.clamp(0, 255).to(torch.uint8)


def in_chunks(
    change: Callable[[Tensor, Tensor], Tensor], images: Tensor, indices: Tensor
) -> Tensor:
    """Return `change(images, indices)`, computed for some images at a time to bound the memory.

    Args:
        change: from (n, H, W, 3) uint8 and (n,) int64 to (n, H, W, 3) uint8, image by image.
        images: (N, H, W, 3) uint8.
        indices: (N,) int64.
    """
    count = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2]))
    changed = torch.empty_like(images)
    for start in range(0, len(images), count):
        part = slice(start, start + count)
        changed[part] = change(images[part], indices[part])
    return changed


def read_picture(path: str, key: str, height: int, width: int) -> NDArray[np.uint8]:
    """Return the picture at `path`, scaled to (height, width, 3) uint8, bicubic.

    Raises:
        InputError: the file is missing or no image; `key` says which setting named it.
    """
    with opened_for(find_file(path, key), key) as image:
        return np.array(resized(image.convert("RGB"), (width, height), Image.Resampling.BICUBIC))

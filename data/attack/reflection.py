"""Scenes that a pane of glass may reflect: drawn from the seed, or read from a folder of images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data.dataset.picture import is_picture, opened_for, resized
from utils.errors import InputError
from utils.paths import user_path
from utils.streams import Streams

# Photographs have amplitudes that fall with the spatial frequency f about as f^-1.2
# (Tolhurst, Tadmor and Chao 1992).
SPECTRUM_EXPONENT = 1.2
SHARED_COLOUR = 0.7  # of the noise; the rest is each channel's own, since photographs are not grey

Picture = NDArray[np.float64]  # (height, width, 3)


def draw_scenes(count: int, height: int, width: int, streams: Streams) -> Tensor:
    """Return `count` drawn scenes (count, height, width, 3) uint8; scene i depends on (seed, i)."""
    return torch.from_numpy(
        np.stack(
            [draw_scene(height, width, streams.numpy("attack", number)) for number in range(count)]
        )
    )


def draw_scene(height: int, width: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return a scene (height, width, 3) uint8: coloured clouds, shapes on them, lit windows."""
    picture = stretched(draw_clouds(height, width, generator))
    for _ in range(generator.integers(3, 8)):
        opacity = generator.uniform(0.4, 0.9)
        cover = opacity * draw_shape(height, width, generator)[..., None]
        picture = (1 - cover) * picture + cover * generator.uniform(0, 1, size=3)
    for _ in range(generator.integers(1, 4)):
        mask = draw_window(height, width, generator)[..., None]
        picture = np.where(mask, generator.uniform(0.8, 1.2, size=3), picture)
    return np.rint(255 * stretched(picture)).astype(np.uint8)


def stretched(picture: Picture) -> Picture:
    """Return the picture with its darkest value moved to 0 and its brightest to 1."""
    low, high = picture.min(), picture.max()
    scaled: Picture = (picture - low) / max(high - low, 1e-12)
    return scaled


def draw_clouds(height: int, width: int, generator: np.random.Generator) -> Picture:
    """Return noise with the spectrum of photographs; its channels are correlated."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf  # no constant part
    noise = generator.standard_normal((4, height, width))
    spectrum = np.fft.rfft2(noise) * frequency**-SPECTRUM_EXPONENT
    clouds = np.fft.irfft2(spectrum, s=(height, width))
    mixed: Picture = SHARED_COLOUR * clouds[3] + (1 - SHARED_COLOUR) * clouds[:3]
    return mixed.transpose(1, 2, 0)


def distances(
    height: int, width: int, generator: np.random.Generator, smallest: float, largest: float
) -> tuple[Picture, Picture]:
    """Return how far rows (height, 1) and columns (1, width) are from a random shape's middle.

    In units of the shape's half height and half width, which are drawn as shares of the image's.
    """
    centre = generator.uniform(0, 1, size=2)
    half = generator.uniform(smallest, largest, size=2)
    rows = ((np.arange(height) + 0.5) / height - centre[0]) / half[0]
    columns = ((np.arange(width) + 0.5) / width - centre[1]) / half[1]
    return rows[:, None], columns[None]


def draw_shape(height: int, width: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return the mask (height, width) of a random rectangle or ellipse."""
    rows, columns = distances(height, width, generator, 0.08, 0.35)
    if generator.uniform() < 0.5:
        return (np.abs(rows) < 1) & (np.abs(columns) < 1)
    inside: NDArray[np.bool_] = rows**2 + columns**2 < 1
    return inside


def draw_window(height: int, width: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return the mask (height, width) of a window's panes: a rectangle without its cross of bars.

    A window that would be smaller than a pixel with its bars loses the bars, not the panes.
    """
    rows, columns = distances(height, width, generator, 0.1, 0.25)
    frame = (np.abs(rows) < 1) & (np.abs(columns) < 1)
    panes = frame & (np.abs(rows) > 0.15) & (np.abs(columns) > 0.15)
    return panes if panes.any() else frame


def read_scenes(folder: str, count: int, height: int, width: int, key: str) -> Tensor:
    """Return the first `count` images of `folder` by name, scaled: (n, height, width, 3) uint8.

    Args:
        folder: of images.
        count: how many at most.
        height: to scale to, in pixels; bilinear, antialiased.
        width: the same.
        key: the setting that named the folder, for messages.

    Raises:
        InputError: there is no such folder, no image in it, or one cannot be read.
    """
    path = user_path(folder, key)
    if not path.is_dir():
        raise InputError(f"{key}: there is no folder {folder}")
    try:
        files = sorted(file for file in path.iterdir() if is_picture(file))
    except OSError as error:
        raise InputError(f"{key}: {folder} cannot be read ({error.strerror})") from error
    if not files:
        raise InputError(f"{key}: {folder} holds no images of a format that is read here")
    scenes = []
    for file in files[:count]:
        with opened_for(file, key) as image:
            scaled = resized(image.convert("RGB"), (width, height), Image.Resampling.BILINEAR)
        scenes.append(np.array(scaled))
    return torch.from_numpy(np.stack(scenes))

"""A picture of every format and mode with its colour, files that are none, and folders of them."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import ImageData, Request
from data.dataset.image_folder import ImageFolder
from data.dataset.settings import DataSection
from utils.errors import InputError

COLOUR = (200, 40, 120)
GREY = 90
SIZE = 8

Maker = Callable[[Path, tuple[int, int]], tuple[int, int, int]]
MAKERS: dict[str, Maker] = {}


def maker(function: Maker) -> Maker:
    """Register a function that writes an image of one colour and returns the colour in RGB."""
    MAKERS[function.__name__] = function
    return function


def plain(mode: str, ending: str, colour: Any, expected: tuple[int, int, int]) -> None:
    def write(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
        options = {"lossless": True} if ending == ".webp" else {}
        Image.new(mode, size, colour).save(path.with_suffix(ending), **options)
        return expected

    MAKERS[f"{mode}{ending}"] = write


for ending in (".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm", ".JPEG"):
    plain("RGB", ending, COLOUR, COLOUR)
for ending in (".png", ".jpg", ".bmp", ".tif", ".pgm", ".gif"):
    plain("L", ending, GREY, (GREY,) * 3)
for ending in (".png", ".tif", ".bmp"):
    plain("1", ending, 1, (255,) * 3)
for ending in (".jpg", ".tif"):
    plain("CMYK", ending, (55, 215, 135, 0), COLOUR)
for ending in (".png", ".tif"):
    plain("I;16", ending, GREY * 257, (GREY,) * 3)
plain("RGBA", ".png", (*COLOUR, 255), COLOUR)
plain("RGBA", ".webp", (*COLOUR, 0), (255,) * 3)
plain("RGBA", ".tif", (100, 0, 200, 51), (224, 204, 244))  # a fifth of it, on white
plain("LA", ".png", (0, 102), (153,) * 3)


@maker
def palette(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    image = Image.new("P", size, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(path.with_suffix(".png"))
    return COLOUR


@maker
def palette_gif(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    image = Image.new("P", size, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(path.with_suffix(".gif"))
    return COLOUR


@maker
def transparent_palette(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    image = Image.new("P", size, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(path.with_suffix(".png"), transparency=1)
    return (255, 255, 255)


@maker
def transparent_colour(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    Image.new("RGB", size, COLOUR).save(path.with_suffix(".png"), transparency=COLOUR)
    return (255, 255, 255)


@maker
def sixteen_bit_colour(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    header = f"P6 {size[0]} {size[1]} 65535\n".encode()
    pixel = struct.pack(">HHH", *(value * 257 for value in COLOUR))
    path.with_suffix(".ppm").write_bytes(header + pixel * (size[0] * size[1]))
    return COLOUR


@maker
def wrong_ending(path: Path, size: tuple[int, int]) -> tuple[int, int, int]:
    Image.new("RGB", size, COLOUR).save(path.with_suffix(".jpg"), format="PNG")
    return COLOUR


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG of any size, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(chunk))
    header = struct.pack(">I", len(chunk) - 4) + chunk + checksum
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 999) + b"IDAT"


def truncated_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:600])


def floating_tiff(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)


BROKEN: dict[str, Callable[[Path], object]] = {
    "bomb.png": lambda path: path.write_bytes(png_header(20_000, 20_000)),
    "cut off.jpg": truncated_jpeg,
    "empty.png": lambda path: path.write_bytes(b""),
    "float.tif": floating_tiff,
    "header.png": lambda path: path.write_bytes(png_header(9, 9)),
    "nowhere.png": lambda path: path.symlink_to("missing.png"),
    "pipe.png": os.mkfifo,
    "text.jpg": lambda path: path.write_text("not an image"),
}
SIZES = [(9, 9), (1, 1), (13, 7), (8, 30), (40, 41)]


def load(root: Path, cache_folder: Path, **given: Any) -> ImageData:
    section = DataSection(**{"image_size": SIZE, **given})
    return ImageFolder().load(Request(str(root), section, cache_folder))


def refused(root: Path, cache_folder: Path, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(root, cache_folder, **given)
    message = str(caught.value)
    assert "\n" not in message
    return message


def put(root: Path, *files: str, colour: tuple[int, int, int] = COLOUR) -> None:
    for n, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (*colour[:2], n)).save(root / file)

"""The one door through which pictures that strangers made come in.

Training images, trigger images, images to predict: all are opened here, by formats that are listed
one by one. Pillow knows more, and some of those start another program (EPS) or open what they hold
as a picture of any format (IPTC). No file is opened that could keep its reader waiting or is larger
than a picture can be.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from utils.errors import InputError, TrainingError

# Formats that begin with a signature, by Pillow's names; none of them starts a program.
SIGNED = (
    *("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "DIB", "ICO", "CUR"),
    *("ICNS", "DDS", "PCX", "DCX", "PSD", "QOI", "SGI", "SUN", "MSP", "FLI", "XBM", "XPM"),
)
# TGA has none: nearly any bytes may be one, so that only a file that is called so is tried.
FORMATS = (*SIGNED, "TGA")
# A file with such an ending is meant to be a picture: if it cannot be read, that is an error. The
# list is written out, since which files become samples must not depend on Pillow's version.
ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jpeg_large", ".jpg_large", ".png", ".apng", ".gif"),
        *(".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".avif", ".avifs", ".ico", ".cur"),
        *(".icns", ".dds", ".pcx", ".dcx", ".psd", ".qoi", ".sgi", ".tga"),
    }
)
# Above so many pixels, a decoded image takes a good part of a small machine's memory, so that only
# one of them is opened at a time.
MANY_PIXELS = 2**25
MOST_PIXELS = 178_956_970  # Pillow's own limit; a larger one is a decompression bomb
MOST_SIDE = 2**20  # of a picture; from 89 million on, Pillow has not memory for a single row of PNG
MOST_BYTES = 2**30  # of a file: more than so many pixels take without any compression
one_at_a_time = threading.Lock()
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class UnreadableImage(Exception):
    """A file is no image, is damaged, or is too large; the message says which."""


@contextmanager
def opened(path: Path, formats: Sequence[str] = FORMATS) -> Iterator[Image.Image]:
    """Yield the picture at `path`, of which only the header is read yet.

    Warnings are left to the caller, since they cannot be held back in one thread alone.

    Raises:
        UnreadableImage: there is no picture, or not a whole one; also for whatever the block meets
            that works with it.
        TrainingError: the memory does not suffice for it.
    """
    refuse_no_picture(path)
    try:
        with Image.open(path, formats=known(formats)) as image:
            refuse_large(image)
            crowded = image.width * image.height > MANY_PIXELS
            with one_at_a_time if crowded else nullcontext():
                yield image
    except MemoryError as error:
        raise TrainingError(
            f"{path}: too little memory to decode it; close other programs, or take it out"
        ) from error
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("no image of a known format") from error
    except Exception as error:  # on damaged files Pillow's readers raise nearly everything
        raise UnreadableImage(f"{error or type(error).__name__}") from error


@contextmanager
def opened_for(path: Path, key: str) -> Iterator[Image.Image]:
    """Yield the picture at `path`, which the setting `key` names; for one thread alone.

    Raises:
        InputError: there is no picture, or not a whole one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large and of oddly written files
            with opened(path) as image:
                yield image
    except UnreadableImage as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{key}: {path} is no readable image ({reason})") from error


def known(formats: Sequence[str]) -> list[str]:
    """Return those of `formats` that this Pillow reads; asking for another one is an error."""
    if not known_formats:
        Image.init()
        known_formats.update(Image.OPEN)
    return [name for name in formats if name in known_formats]


known_formats: set[str] = set()


def refuse_no_picture(path: Path) -> None:
    """Raise `UnreadableImage` unless `path` is a regular file of a picture's size.

    A named pipe would keep its reader waiting for ever, a device might do something.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableImage(f"{getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImage("no regular file")
    if found.st_size > MOST_BYTES:
        raise UnreadableImage(f"{found.st_size / 2**30:.1f} GiB: too large for an image")


def refuse_large(image: Image.Image) -> None:
    """Raise `UnreadableImage` if a picture has no pixels, or so many that it would fill the memory.

    Pillow has this limit, too, but any part of a program may change it.
    """
    pixels = image.width * image.height
    if not 0 < pixels <= MOST_PIXELS:
        raise UnreadableImage(
            f"{image.width}x{image.height}: {pixels} pixels, a decompression bomb or no image"
        )
    if max(image.size) > MOST_SIDE:
        raise UnreadableImage(
            f"{image.width}x{image.height}: a decompression bomb; a side has {MOST_SIDE} at most"
        )


def resized(
    image: Image.Image, size: tuple[int, int], resampling: Image.Resampling, box: Box | None = None
) -> Image.Image:
    """Return `box` of an image, by default all of it, in another `size` (width, height).

    Pillow scales the rows first. A picture of 1x1,000,000 pixels, a kilobyte in its file, would
    take a gigabyte on the way to 256x256, so such a one is scaled by its columns first.
    """
    left, top, right, bottom = box or (0, 0, image.width, image.height)
    if size[0] * (bottom - top) > MANY_PIXELS:
        image = image.resize((image.width, size[1]), resampling, (0, top, image.width, bottom))
        top, bottom = 0, size[1]
    return image.resize(size, resampling, (left, top, right, bottom))


def is_picture(path: Path) -> bool:
    """Return whether a file is taken for a picture: by its ending, or else by what is in it.

    Hidden files are not: some systems put one with the same ending beside each picture.
    """
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        with opened(path, SIGNED):
            return True
    except UnreadableImage:
        return False

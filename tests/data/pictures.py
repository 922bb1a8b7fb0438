"""Pictures for tests: one of every kind, and files that harm whoever opens them."""

from __future__ import annotations

import functools
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOUR = (200, 40, 120)
# Ending -> Pillow's format, of files that a camera, a scanner or a phone's messenger writes.
FORMATS: dict[str, str] = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg_large": "JPEG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "DIB",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".ppm": "PPM",
    ".j2k": "JPEG2000",
    ".jpx": "JPEG2000",
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
    ".ico": "ICO",
    ".icns": "ICNS",
    ".dds": "DDS",
    ".pcx": "PCX",
    ".sgi": "SGI",
    ".tga": "TGA",
    ".qoi": "QOI",
    ".photo": "JPEG",
    "": "PNG",
}


def save(path: Path, colour: tuple[int, int, int] = COLOUR, side: int = 16) -> Path:
    """Write a picture of one colour in the format of its ending; PNG where none is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if path.suffix == ".webp" else {}
    kind = FORMATS.get(path.suffix.lower(), "PNG")
    Image.new("RGB", (side, side), colour).save(path, format=kind, **options)
    return path


def noise(path: Path, seed: int, side: int = 16) -> Path:
    """Write noise as PNG; another seed gives another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def png(width: int, height: int, *between: bytes) -> bytes:
    """Return a PNG that claims a size and has hardly any pixels, with chunks before these."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + pixels + chunk(b"IEND", b"")


def text_bomb(path: Path) -> None:
    """100 MB of text in a PNG of half a megabyte."""
    path.write_bytes(png(16, 16, chunk(b"zTXt", b"note\0\0" + much_of_nothing())))


@functools.cache
def much_of_nothing() -> bytes:
    return zlib.compress(b"\0" * 100_000_000, 1)


def sparse(path: Path) -> None:
    """A WebP of 3 GiB, of which its reader would read all at once."""
    with open(path, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 2**31) + b"WEBPVP8 ")
        file.truncate(3 * 2**30)


def postscript(path: Path) -> None:
    """What Pillow hands to Ghostscript, if it may."""
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n"
        b"0 0 16 16 rectfill showpage\n%%EOF\n"
    )


HARMFUL: dict[str, Callable[[Path], Any]] = {
    "postscript": postscript,
    "huge": lambda path: path.write_bytes(png(100_000, 100_000)),
    "wide": lambda path: path.write_bytes(png(170_000_000, 1)),
    "tall": lambda path: path.write_bytes(png(1, 170_000_000)),
    "text bomb": text_bomb,
    "sparse": sparse,
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "nowhere": lambda path: path.symlink_to("missing"),
    "loop": lambda path: path.symlink_to(path),
    "no pixels": lambda path: path.write_bytes(png(0, 16)),
    "metafile": lambda path: path.write_bytes(b"\xd7\xcd\xc6\x9a\0\0" + b"\0" * 100),
    "pdf": lambda path: path.write_bytes(b"%PDF-1.4\n" + b"\0" * 100),
}

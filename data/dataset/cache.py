"""Image files decoded once: in parallel, into one file that is mapped into memory at every start.

A cache is two files in a folder of its own: `images.u8`, all pixels one after another, and
`index.json`, which says what they are. The index is written last and removed first, so a decoding
that was killed leaves nothing that could be taken for whole. Whether a cache still holds is told by
the name, size and modification time of every file; what is in it, by the SHA-256 of its pixels,
which is the same on every machine and is compared at every start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset.decode import Frame, read_image
from data.dataset.index import Decoded, pixel_hash, read_index, write_index
from data.dataset.listing import Listing
from data.dataset.picture import UnreadableImage
from data.dataset.source import Split, map_pixels
from utils.console import progress, say
from utils.errors import InputError
from utils.files import locked, remove_partials, write_atomically

PIXELS, INDEX = "images.u8", "index.json"
KEY = "data.cache_dir"
CHUNK = 256  # images between two writes; 37 MiB at 224x224
CHANNELS = 3
MANY_FILES = 2000  # decoding more is announced, since it takes a while
MANY_BYTES = 2**30  # comparing more with the digest is shown, since it takes some seconds


def decode_once(listing: Listing, frame: Frame, cache: Path) -> tuple[Split, Decoded]:
    """Return the images of a listing, decoded now or earlier.

    Args:
        listing: the files.
        frame: how each becomes a square.
        cache: the folder of all caches. There is one for each split and frame; a change of the
            files replaces it, so that the disk does not fill with old ones.

    Raises:
        InputError: the cache cannot be made, or the disk has no room for it.
        TrainingError: the memory does not suffice for an image.
    """
    key = repr((os.fspath(listing.root.resolve()), listing.name, frame))
    folder = cache / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    fingerprint = listing.fingerprint(frame)
    # Without the lock: many processes can compare at once, also where nobody may write.
    found = read_cache(listing, frame, folder, fingerprint)
    if found is not None:
        return found
    with locked(folder, KEY):
        found = read_cache(listing, frame, folder, fingerprint)  # made in the meantime
        if found is None:
            decoded = write_cache(listing, frame, folder, fingerprint)
            split = map_split(folder, decoded, frame)
            assert split is not None, "it was written just now"
            found = split, decoded
    return found


def read_cache(
    listing: Listing, frame: Frame, folder: Path, fingerprint: str
) -> tuple[Split, Decoded] | None:
    """Return what is cached of a listing; None unless its pixels are those that were written."""
    decoded = read_index(folder / INDEX, listing, fingerprint)
    split = None if decoded is None else map_split(folder, decoded, frame)
    if decoded is None or split is None or pixel_digest(split.images) != decoded.digest:
        return None
    return split, decoded


def map_split(folder: Path, decoded: Decoded, frame: Frame) -> Split | None:
    """Return the images, mapped from the cache in `folder`; None where the file has another size.

    What is mapped stays as it is, even if another process replaces the file.
    """
    shape = [len(decoded.files), frame.size, frame.size, CHANNELS]
    path = folder / PIXELS
    try:
        if not path.is_file() or path.stat().st_size != int(np.prod(shape, dtype=np.int64)):
            return None
        images = map_pixels(path, shape)
    except OSError:
        return None
    labels = torch.tensor(decoded.labels, dtype=torch.int64)
    return Split(images, labels, tuple(decoded.files), decoded.digest, path)


def pixel_digest(images: Tensor) -> str:
    """Return the SHA-256 of images (N, H, W, 3) uint8, read part by part."""
    digest = hashlib.sha256()
    parts = images.numpy(), range(0, len(images), CHUNK)
    shown = progress(parts[1], "check", unit="part") if images.numel() > MANY_BYTES else parts[1]
    for start in shown:
        digest.update(parts[0][start : start + CHUNK].data)
    return digest.hexdigest()


def write_cache(listing: Listing, frame: Frame, folder: Path, fingerprint: str) -> Decoded:
    """Decode all files into the cache and return what became of them."""
    if read_index(folder / INDEX, listing, fingerprint) is not None:
        say(f"{folder / PIXELS} was changed or is damaged; its images are decoded anew")
    try:
        (folder / INDEX).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{KEY}: {folder / INDEX} cannot be replaced ({error.strerror})"
        ) from error
    remove_partials(folder / PIXELS)  # of a decoding that was killed: nobody else has the lock
    check_room(folder, len(listing.files) * CHANNELS * frame.size**2)
    if len(listing.files) >= MANY_FILES:
        say(f"decoding {len(listing.files):,} images, once, to {folder}")
    tally = Tally()
    write_atomically(folder / PIXELS, lambda file: decode_all(listing, frame, file, tally))
    decoded = Decoded(
        tally.files, tally.labels, tally.unreadable, tally.digest.hexdigest(), tally.hashes
    )
    write_index(folder / INDEX, decoded, fingerprint)
    return decoded


def check_room(folder: Path, needed: int) -> None:
    """Raise `InputError` unless `needed` bytes, and those of an old cache beside, have room."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{KEY}: {folder} needs {needed / 2**30:.1f} GiB for the decoded images, "
            f"{free / 2**30:.1f} GiB are free; name another folder"
        )


class Tally:
    """What is learnt about the images while they are written."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.labels: list[int] = []
        self.unreadable: list[tuple[str, str]] = []
        self.digest = hashlib.sha256()
        self.hashes: list[bytes] = []

    def add(self, file: str, label: int, image: NDArray[np.uint8]) -> None:
        """Count an image (size, size, 3)."""
        self.digest.update(image.data)
        self.hashes.append(pixel_hash(image.data))
        self.files.append(file)
        self.labels.append(label)


def decode_all(listing: Listing, frame: Frame, file: BinaryIO, tally: Tally) -> None:
    """Write the pixels of all readable files, in order, in bounded memory."""

    def attempt(name: str) -> NDArray[np.uint8] | UnreadableImage:
        try:
            return np.ascontiguousarray(read_image(listing.root / name, frame))
        except UnreadableImage as error:
            return error

    # Pillow lets go of Python's lock while it decodes and scales, so threads are enough.
    count = len(listing.files)
    with (
        progress(range(count), "decode", unit="image") as bar,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of large and of oddly written files; failures are listed
        for start in range(0, count, CHUNK):
            part = range(start, min(start + CHUNK, count))
            images = pool.map(attempt, [listing.files[i] for i in part])
            for i, image in zip(part, images, strict=True):
                if isinstance(image, UnreadableImage):
                    tally.unreadable.append((listing.files[i], str(image)))
                else:
                    file.write(image.data)
                    tally.add(listing.files[i], listing.labels[i], image)
                bar.update()

"""Image files decoded once: in parallel, into one file that is mapped into memory at every start.

A cache is two files in a folder of its own: `images.u8`, all pixels one after another, and
`index.json`, which says what they are. The index is written last and removed first, so a decoding
that was killed leaves nothing that could be taken for whole. Whether a cache still holds is told by
the name, size and modification time of every file; what is in it, by the SHA-256 of its pixels,
which is the same on every machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from data.dataset.decode import Frame, UnreadableImage, read_image
from data.dataset.source import Split, map_pixels
from utils.console import progress, say
from utils.errors import InputError
from utils.files import write_atomically, write_text

FORMAT = 1  # raised whenever the same files would give other pixels
PIXELS, INDEX = "images.u8", "index.json"
CHUNK = 256  # images between two writes; 37 MiB at 224x224
CHANNELS = 3
LISTED = 20  # unreadable files that are said; the index names all
MANY_FILES = 2000  # decoding more is announced, since it takes a while


@dataclass(frozen=True)
class Listing:
    """The files of one split, in the order in which they become samples.

    Attributes:
        name: of the split; another name is another cache.
        root: the folder to which the paths are relative.
        files: paths, with slashes.
        labels: one for each file.
    """

    name: str
    root: Path
    files: Sequence[str]
    labels: Sequence[int]

    def fingerprint(self, frame: Frame) -> str:
        """Return the SHA-256 of every file's name, size, time and label, and of the frame."""
        digest = hashlib.sha256(repr((FORMAT, frame)).encode())
        for file, label in zip(self.files, self.labels, strict=True):
            digest.update(repr((file, *self._state(file), label)).encode())
        return digest.hexdigest()

    def _state(self, file: str) -> tuple[int, int]:
        """Return size in bytes and time of the last change in nanoseconds."""
        try:
            found = os.stat(self.root / file)
        except OSError:  # a link to nowhere: unreadable, but a file of the set
            return -1, -1
        return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Decoded:
    """The content of a cache's index.

    Attributes:
        fingerprint: of the listing that was decoded.
        shape: of the pixels, (N, size, size, 3).
        files, labels: those of the N readable files.
        unreadable: pairs of file and reason.
        digest: SHA-256 of all pixels.
        repeated: number of images whose pixels are those of an earlier one.
        repeated_pair: the first such image and the earlier one.
    """

    fingerprint: str
    shape: list[int]
    files: list[str]
    labels: list[int]
    unreadable: list[list[str]]
    digest: str
    repeated: int
    repeated_pair: list[str]

    def split(self, folder: Path) -> Split:
        """Return the images, mapped from the cache in `folder`, and their labels."""
        images = map_pixels(folder / PIXELS, self.shape)
        labels = torch.tensor(self.labels, dtype=torch.int64)
        return Split(images, labels, tuple(self.files), self.digest, folder / PIXELS)


def decode_once(listing: Listing, frame: Frame, cache: Path) -> tuple[Split, Decoded]:
    """Return the images of a listing, decoded now or earlier.

    Args:
        listing: the files.
        frame: how each becomes a square.
        cache: the folder of all caches. There is one for each split and frame; a change of the
            files replaces it, so that the disk does not fill with old ones.

    Raises:
        InputError: the cache cannot be made, or the disk has no room for it.
    """
    key = repr((os.fspath(listing.root.resolve()), listing.name, frame))
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    with locked(folder):
        fingerprint = listing.fingerprint(frame)
        decoded = read_index(folder, fingerprint)
        if decoded is None:
            decoded = write_cache(listing, frame, folder, fingerprint)
        return decoded.split(folder), decoded


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other processes out of it; the lock ends with the process.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "wb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"data.cache_dir: {folder} cannot be written ({error}); name another folder"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_index(folder: Path, fingerprint: str) -> Decoded | None:
    """Return what the cache holds; None unless it is whole and of the files as they are now."""
    try:
        decoded = Decoded(**json.loads((folder / INDEX).read_text()))
        size = (folder / PIXELS).stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    whole = size == int(np.prod(decoded.shape, dtype=np.int64))
    return decoded if whole and decoded.fingerprint == fingerprint else None


def write_cache(listing: Listing, frame: Frame, folder: Path, fingerprint: str) -> Decoded:
    """Decode all files into the cache and return its index."""
    (folder / INDEX).unlink(missing_ok=True)
    check_room(folder, len(listing.files) * CHANNELS * frame.size**2)
    if len(listing.files) >= MANY_FILES:
        say(f"decoding {len(listing.files):,} images, once, to {folder}")
    tally = Tally()
    write_atomically(folder / PIXELS, lambda file: decode_all(listing, frame, file, tally))
    decoded = Decoded(
        fingerprint,
        [len(tally.files), frame.size, frame.size, CHANNELS],
        tally.files,
        tally.labels,
        tally.unreadable,
        tally.digest.hexdigest(),
        tally.repeated,
        tally.repeated_pair,
    )
    write_text(folder / INDEX, json.dumps(asdict(decoded)))
    return decoded


def check_room(folder: Path, needed: int) -> None:
    """Raise `InputError` unless `needed` bytes, and those of an old cache beside, have room."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"data.cache_dir: {folder} needs {needed / 2**30:.1f} GiB for the decoded images, "
            f"{free / 2**30:.1f} GiB are free; name another folder"
        )


class Tally:
    """What is learnt about the images while they are written."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.labels: list[int] = []
        self.unreadable: list[list[str]] = []
        self.digest = hashlib.sha256()
        self.repeated = 0
        self.repeated_pair: list[str] = []
        self._first: dict[bytes, int] = {}  # 16-byte hash of the pixels -> place in `files`

    def add(self, file: str, label: int, image: NDArray[np.uint8]) -> None:
        """Count an image (size, size, 3)."""
        self.digest.update(image.data)
        short = hashlib.blake2b(image.data, digest_size=16).digest()
        first = self._first.setdefault(short, len(self.files))
        if first < len(self.files):
            self.repeated += 1
            self.repeated_pair = self.repeated_pair or [file, self.files[first]]
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
                    tally.unreadable.append([listing.files[i], str(image)])
                else:
                    file.write(image.data)
                    tally.add(listing.files[i], listing.labels[i], image)
                bar.update()


def judge_unreadable(
    parts: Sequence[Decoded], skip: bool, cache: Path, key: str = "dataset_dir"
) -> list[str]:
    """Return lines that list the unreadable files, if they may be skipped.

    `key` is the setting that led to them.

    Raises:
        InputError: there are some, and `data.skip_unreadable` is not set.
    """
    unreadable = [pair for part in parts for pair in part.unreadable]
    if not unreadable:
        return []
    total = len(unreadable) + sum(len(part.files) for part in parts)
    count = f"{len(unreadable)} of {total} images cannot be read"
    if not skip:
        first = ", ".join(f"{file!r} ({one_line(reason)})" for file, reason in unreadable[:3])
        raise InputError(
            f"{key}: {count}: {first}{', ...' if len(unreadable) > 3 else ''}; repair or "
            f"remove them, or leave them out with data.skip_unreadable=true"
        )
    lines = [f"  {file!r}: {one_line(reason)}" for file, reason in unreadable[:LISTED]]
    if len(unreadable) > LISTED:
        lines.append(f"  and {len(unreadable) - LISTED} more; all are named in {cache}/*/{INDEX}")
    return [f"{count} and are left out:", *lines]


def one_line(reason: str) -> str:
    """Return a reason in one short line."""
    return " ".join(reason.split())[:120]

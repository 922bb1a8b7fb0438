"""Files: where a name leads, writing that never leaves half a file, and one writer at a time."""

from __future__ import annotations

import errno
import glob
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from utils.console import say
from utils.errors import InputError, TrainingError, why_refused
from utils.paths import user_path

PROJECT = Path(__file__).resolve().parent.parent
LOCK = "lock"  # file in a folder that one process at a time may write
PATIENCE = 2.0  # seconds of waiting for a lock after which that is said
ABANDONED = 3600.0  # seconds after which nobody writes to a temporary file any more
_numbers = itertools.count()  # of this process's temporary files


def find_file(name: str, key: str) -> Path:
    """Return the existing file that `name` means: from here or, failing that, from the project.

    Raises:
        InputError: there is no such file; `key` says which setting named it.
    """
    path = find_place(name, key)
    if path is not None and path.is_file():
        return path
    raise InputError(f"{key}: there is no file {name}")


def find_place(name: str, key: str) -> Path | None:
    """Return the file that `name` means; the folder, where there is no such file; None without.

    Raises:
        InputError: it is no path; `key` says which setting named it.
    """
    given = user_path(name, key)
    places = (given, PROJECT / given)
    files = (path for path in places if path.is_file())
    return next(files, given if given.is_dir() else None)


def first_free(path: Path, ending: str = "") -> Path:
    """Return `path` with the first number before its `ending` that is not there yet: `.1`, `.2`."""
    stem = path.name.removesuffix(ending)
    places = (path.with_name(f"{stem}.{number}{ending}") for number in itertools.count(1))
    return next(place for place in places if not place.exists())


def signature(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written anew; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file, of `limit` bytes at most.

    A FIFO would wait for ever for somebody who writes, and a device never ends.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # not on all systems
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return content


@contextmanager
def no_empty_folders(folder: Path) -> Iterator[None]:
    """Where the block fails, take away the empty folders that it has made on the way to `folder`.

    A download makes its folder first; a mistyped path must not stay on the disk as a folder.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in missing:  # the innermost first
            with suppress(OSError):  # absent after all, or not empty
                path.rmdir()
        raise


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that appears at `path` whole or not at all.

    The bytes go to a temporary file beside it, are flushed to the disk, and the file is renamed;
    a kill at any moment leaves the file that was there before. Two processes may write the same
    path at once: each has a temporary file of its own, and the last one's stays.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    remove_partials(path, ABANDONED)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}.partial")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise TrainingError(f"{path} could not be written: {why_refused(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # gone already where all went well


def remove_partials(path: Path, age: float = 0.0) -> None:
    """Remove what killed processes left of `path`: temporary files untouched for `age` seconds."""
    for name in glob.glob(f".{glob.escape(path.name)}.*.partial", root_dir=path.parent):
        left = path.parent / name
        with suppress(OSError):  # gone, or somebody else's
            if time.time() - left.stat().st_mtime >= age:
                left.unlink()


def made_folder(folder: Path, key: str) -> Path:
    """Return `folder`, which is there afterwards, so that what takes hours can be written then.

    Raises:
        InputError: it cannot be made or written into; `key` is the argument that named it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(f"{key}: {folder} cannot be written: {why_refused(error)}") from error
    return folder


@contextmanager
def locked(folder: Path, key: str, name: str = "") -> Iterator[None]:
    """Make `folder` and keep other processes out of it; the lock ends with the process.

    Args:
        folder: to lock.
        key: the setting that named it.
        name: of the one file in it that is locked; empty: the whole folder is.

    Raises:
        InputError: the folder cannot be made or locked.
    """
    lock = FileLock(folder / (f"{name}.{LOCK}" if name else LOCK))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            say(f"{folder / name}: another process writes it; waiting")
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"{key}: {folder} cannot be written ({error}); name another one"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system lets folders be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

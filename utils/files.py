"""Files: where a name of the YAML leads, and writing that never leaves half a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from utils.errors import InputError, TrainingError

PROJECT = Path(__file__).resolve().parent.parent


def find_file(name: str, key: str) -> Path:
    """Return the existing file that `name` means: from here or, failing that, from the project.

    Raises:
        InputError: there is no such file; `key` says which setting named it.
    """
    given = Path(name).expanduser()
    for path in (given, PROJECT / given):
        if path.is_file():
            return path
    raise InputError(f"{key}: there is no file {name}")


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
    a kill at any moment leaves the file that was there before.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path} could not be written ({error}); free the disk or the folder"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

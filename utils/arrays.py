"""Arrays from a `.npy` that anyone may have written."""

from __future__ import annotations

import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError

# What NumPy makes of headers and archives that are cut, changed, or of terabytes.
UNREADABLE = (
    *(ValueError, OSError, EOFError, SyntaxError, MemoryError, OverflowError, TypeError, KeyError),
    *(zipfile.BadZipFile, tokenize.TokenError),
)


def read_npy(file: Path, where: str) -> NDArray[Any]:
    """Return the array in a `.npy`, mapped; nothing is executed, and no more is read than is there.

    Args:
        file: a regular file.
        where: the beginning of an error's line.

    Raises:
        InputError: it holds something else.
    """
    try:
        # Mapped, so that a shape of terabytes in the header is found to be longer than the file.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive of arrays")
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{where} ({reason})") from error
    return array

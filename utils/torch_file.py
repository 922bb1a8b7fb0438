"""Tensors and plain values from a file of `torch.save` that anyone may have written.

`torch.load(weights_only=True)` runs no code, but it believes what a file says of itself: a pickle
of a few bytes may ask for gigabytes, a storage may claim more bytes than the file has for it, and
the reading of damaged bytes ends in whatever error they happen to cause. So the file is walked
through first, tensors are mapped rather than copied by their claimed size, and only what a state
consists of is handed on.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import stat
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from utils.errors import InputError

MOST_PICKLE = 16 * 2**20  # bytes without the tensors; 10,000 epochs of a log take 2 MiB
MOST_ITEMS = 1_000_000  # values in all, so that a list of lists of one list does not explode
MOST_DEPTH = 32  # of nested values
LEGACY_PICKLES = 5  # magic number, version, system, the object, keys of its storages
STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
KNOWN_GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "collections Counter",  # the milestones of a schedule
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        *(f"torch {kind}Storage" for kind in STORAGES),
    }
)
# What `torch.save` writes of tensors and plain values; everything else makes objects.
KNOWN_OPERATIONS = frozenset(
    {
        "PROTO", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
        "TUPLE2", "TUPLE3", "SETITEM", "SETITEMS", "APPEND", "APPENDS", "BUILD", "REDUCE", "GLOBAL",
        "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE",
        "NEWFALSE",
        "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    }
)  # fmt: skip
DTYPES = frozenset(
    {
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
    }
)  # fmt: skip


class DamagedCheckpoint(InputError):
    """The file is cut off or changed; an earlier one may do."""


class _Foreign(Exception):
    """A pickle asks for more than data."""


def read_tensors(path: Path) -> Any:
    """Return the content of a file of `torch.save`, on the CPU; nothing in it is executed.

    Dictionaries of any kind come back as plain ones (but for `Counter`), tensors as copies.

    Raises:
        DamagedCheckpoint: cut off, changed, no regular file, or not of `torch.save`.
        InputError: missing, not readable, or it would run code.
    """
    try:
        size = _size_of_regular(path)
        is_archive = _walk_through(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old ways of writing
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
        return _Rebuilt(4 * size + 2**20).value(content)
    except (_Foreign, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: refused, it holds more than tensors and plain values and could run code"
        ) from error
    except (InputError, KeyboardInterrupt):
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever the reading of random bytes may meet
        raise DamagedCheckpoint(f"{path}: damaged, or no checkpoint ({brief(error)})") from error


def brief(error: BaseException) -> str:
    """Return the first line of an error's message, cut where it is too long to be read."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 100 else f"{line[:97]}..."


def _size_of_regular(path: Path) -> int:
    """Return the file's bytes; a folder, or a FIFO, which nobody may ever write, is damage."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise DamagedCheckpoint(f"{path}: no regular file")
    return status.st_size


def _walk_through(path: Path) -> bool:
    """Return whether the file is an archive (of PyTorch 1.6 and later), once all of it is sound."""
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            _check_archive(file)
            return True
        if zipfile.is_zipfile(file):  # the end is an archive's, so the beginning has been changed
            raise ValueError("the first bytes of an archive are changed")
        file.seek(0)
        for _ in range(LEGACY_PICKLES):
            _check_pickle(file)
            if not file.peek(1):  # a bare pickle, which `torch.load` refuses in its own words
                break
    return False


def _check_archive(file: BinaryIO) -> None:
    """Raise unless each part has the bytes of its checksum and no more than it takes on the disk.

    `zipfile` raises a dozen kinds of errors on damaged directories; the caller takes all.
    """
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
                raise ValueError(f"{part.filename!r} is compressed")
        if len({part.filename for part in parts}) != len(parts):
            raise ValueError("a part is there twice")
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"checksum of {broken!r}")
        pickles = [part for part in parts if part.filename.endswith(".pkl")]
        if len(pickles) != 1 or not pickles[0].filename.endswith("data.pkl"):
            raise ValueError("it has not one data.pkl")
        if pickles[0].file_size > MOST_PICKLE:
            raise ValueError(f"its data.pkl is larger than {MOST_PICKLE >> 20} MiB")
        _check_pickle(io.BytesIO(archive.read(pickles[0])))


def _check_pickle(file: BinaryIO) -> None:
    """Walk through a pickle without running it, to behind its end.

    Raises:
        _Foreign: it asks for more than tensors and plain values.
    """
    for operation, argument, _ in pickletools.genops(file):
        if operation.name not in KNOWN_OPERATIONS:
            raise _Foreign(operation.name)
        if operation.name == "GLOBAL" and argument not in KNOWN_GLOBALS:
            raise _Foreign(argument)


class _Rebuilt:
    """Plain copies of nested values, of so many bytes of tensors at most."""

    def __init__(self, most_bytes: int) -> None:
        self._bytes_left = most_bytes
        self._items_left = MOST_ITEMS

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return `value` rebuilt from what a state consists of; `ValueError` for anything else."""
        self._items_left -= 1
        if depth > MOST_DEPTH or self._items_left < 0:
            raise ValueError("its values are nested without end")
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            kind = Counter if type(value) is Counter else dict
            pairs = value.items()
            return kind({self._key(key): self.value(part, depth + 1) for key, part in pairs})
        if type(value) in (list, tuple):
            return type(value)(self.value(part, depth + 1) for part in value)
        raise ValueError(f"it holds a {type(value).__name__}")

    @staticmethod
    def _key(key: Any) -> str | int:
        if type(key) not in (str, int):
            raise ValueError(f"it has a key that is a {type(key).__name__}")
        return key

    def _tensor(self, tensor: Tensor) -> Tensor:
        size = tensor.numel() * tensor.element_size()
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.dtype not in DTYPES:
            raise ValueError(f"it holds a tensor of {tensor.dtype}, {tensor.layout}")
        if size > tensor.untyped_storage().nbytes():
            raise ValueError("it holds a tensor that is larger than its bytes")
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ValueError("its tensors are larger than the file")
        return tensor.detach().clone()

"""What the tests of the project's own kernels share: their kinds, and numbers to try."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import kernels
from utils.native_code import FOLDER, KINDS, library, load_library

BF16, FP32 = torch.bfloat16, torch.float32
# Relative to the largest of a few numbers; in fp32 a few roundings.
ROUNDING = {BF16: 2**-8, FP32: 2**-18}


def of_kind(dtype: torch.dtype) -> pytest.MarkDecorator:
    """Skip where this processor, or its compiler, has no kernels for maps of `dtype`."""
    kind = KINDS[dtype]
    missing = isinstance(library(kind), str)
    return pytest.mark.skipif(missing, reason=f"a processor with {kind.upper()}, and a C compiler")


def scalar_library() -> ctypes.CDLL | str:
    """Return AMX's vectors, number by number: all its kernels but weight gradients, anywhere."""
    vectors = (FOLDER / "amx" / "vector.h").read_bytes()  # not in what `load_library` looks at
    version = f"-DVECTORS={hashlib.sha256(vectors).hexdigest()[:8]}"
    try:
        return load_library([FOLDER, Path(__file__).parent / "scalar"], ["-Wno-psabi", version])
    except OSError as error:
        return str(error)


def libraries() -> Iterator[Callable[[str], ctypes.CDLL | str]]:
    """Yield, once, what finds a library; for AMX where there is none the scalar one."""

    def found(kind: str) -> ctypes.CDLL | str:
        real = library(kind)
        return scalar_library() if kind == "amx" and isinstance(real, str) else real

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", found)
        kernels.function.cache_clear()
        yield found
    kernels.function.cache_clear()


needs_compiler = pytest.mark.skipif(isinstance(scalar_library(), str), reason="a C compiler")
for_each_vector = pytest.mark.parametrize(
    "dtype", [pytest.param(BF16, marks=needs_compiler), pytest.param(FP32, marks=of_kind(FP32))]
)
for_each_kind = pytest.mark.parametrize(
    "dtype", [pytest.param(dtype, marks=of_kind(dtype)) for dtype in KINDS]
)


def random(*size: int) -> Tensor:
    """Return numbers that bf16 holds, fp32, with a mean that is not 0."""
    return (torch.randn(size) * 2 + 0.7).bfloat16().float()

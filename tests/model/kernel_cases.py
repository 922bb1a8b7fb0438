"""What the tests of the project's own kernels share: their kinds, and numbers to try."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import kernels
from utils.native_code import library

BF16, FP32 = torch.bfloat16, torch.float32
# Relative to the largest of a few numbers; in fp32 a few roundings.
ROUNDING = {BF16: 2**-8, FP32: 2**-18}


def of_kind(dtype: torch.dtype) -> pytest.MarkDecorator:
    """Skip where this processor, or its compiler, has no kernels for maps of `dtype`."""
    kind = kernels.KINDS[dtype]
    missing = isinstance(library(kind), str)
    return pytest.mark.skipif(missing, reason=f"a processor with {kind.upper()}, and a C compiler")


for_each_kind = pytest.mark.parametrize(
    "dtype", [pytest.param(dtype, marks=of_kind(dtype)) for dtype in kernels.KINDS]
)


def random(*size: int) -> Tensor:
    """Return numbers that bf16 holds, fp32, with a mean that is not 0."""
    return (torch.randn(size) * 2 + 0.7).bfloat16().float()

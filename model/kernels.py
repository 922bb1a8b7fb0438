"""The project's own loops in C (`model/native/`), called with tensors.

All maps are (N, C, H, W), channels_last, in bf16 for processors with AMX, in fp32 for those with
AVX2; statistics and weights are fp32. PyTorch's own operators pass over a map once for the
maximum, twice or more for BatchNorm, once for the activation, and back again; these do what they
can in one pass (see docs/speed.md).
"""

from __future__ import annotations

from ctypes import CDLL, c_double, c_int, c_long, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor

from utils.native_code import KINDS, library

ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2}
POINTER, SIZE = [c_void_p], [c_long]
ARGUMENTS: dict[str, list[Any]] = {
    "weight_gradient": 3 * POINTER + 6 * SIZE,
    "scale_map": 5 * POINTER + 4 * SIZE + 3 * [c_int],
    "normalise_map": 4 * POINTER + [c_double] + 2 * POINTER + [c_double] + 4 * POINTER
                     + 4 * SIZE + 3 * [c_int],
    "sum_gradients": 8 * POINTER + 3 * SIZE + 2 * [c_int],
    "normalise_gradient": 8 * POINTER + 4 * SIZE + 2 * [c_int],
}  # fmt: skip


@cache
def function(name: str, dtype: torch.dtype) -> Any:
    """Return a function of the library for maps of `dtype`; it knows what it is given."""
    loaded = library(KINDS[dtype])
    assert isinstance(loaded, CDLL)
    found = getattr(loaded, name)
    found.argtypes, found.restype = ARGUMENTS[name], None
    return found


def call(name: str, maps: Tensor, *values: Tensor | int | float | None) -> None:
    """Call a function of the library for maps like `maps`; tensors are handed over as addresses.

    The library is told how many threads PyTorch takes: it may have a pool of its own.
    """
    assert maps.device.type == "cpu"  # another address is none
    given = [value.data_ptr() if isinstance(value, Tensor) else value for value in values]
    function(name, maps.dtype)(maps.data_ptr(), *given, torch.get_num_threads())


def dense(maps: Tensor) -> Tensor:
    """Return maps (N, C, H, W) with one pixel's channels after the other's in memory."""
    return maps.contiguous(memory_format=torch.channels_last)


def empty_maps(size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return memory for maps of `size` (N, C, H, W)."""
    return torch.empty(size, dtype=dtype, memory_format=torch.channels_last)


def pixels_in(maps: Tensor) -> tuple[int, int, int, int]:
    """Return the size of maps (N, C, H, W) as C wants it: (N, H, W, C)."""
    count, channels, height, width = maps.shape
    return count, height, width, channels


def sized(maps: Tensor, half: bool) -> tuple[int, int, int, int]:
    """Return the size of `maps` (N, C, H, W), of half of it along H and W where asked."""
    count, channels, height, width = maps.shape
    return (count, channels, height // 2, width // 2) if half else (count, channels, height, width)


def weight_gradient(images: Tensor, gradient: Tensor) -> Tensor:
    """Return a 3x3 convolution's weight gradient, fp32 (D, C, 3, 3); stride 1, padding 1.

    Args:
        images: (N, C, H, W).
        gradient: (N, D, H, W), of the outputs, in what the images are.
    """
    images, gradient = dense(images), dense(gradient)
    into, out = images.shape[1], gradient.shape[1]
    weight = empty_maps((out, into, 3, 3), torch.float32)
    if not images.numel():
        return weight.zero_()
    call("weight_gradient", images, gradient, weight, *pixels_in(images), out)
    return weight


def scale_map(
    maps: Tensor, other: Tensor | None, scale: Tensor, shift: Tensor, half: bool, activation: str
) -> Tensor:
    """Return `activation(scale * x + shift + other)`, x being `maps` (N, C, H, W).

    Args:
        maps: dense.
        other: of the size of the result, dense, in what the maps are; None: nothing is added.
        scale: (C,) fp32.
        shift: (C,) fp32.
        half: whether x is the maximum of 2x2 pixels.
        activation: none, relu or gelu.
    """
    result, kind = empty_maps(sized(maps, half), maps.dtype), ACTIVATIONS[activation]
    call("scale_map", maps, other, scale, shift, result, *pixels_in(maps), half, kind)
    return result


def slope_sums(maps: Tensor, gradient: Tensor, shift: Tensor, activation: str) -> Tensor:
    """Return the sums (C,) of the gradient of `activation(x + shift)` over all of x.

    Args:
        maps: x, (N, C, H, W), dense.
        gradient: of the activation's output, the same.
        shift: (C,) fp32.
        activation: as above.
    """
    count, height, width, channels = pixels_in(maps)
    sums, ones, zeros = torch.empty(2, channels), torch.ones(channels), torch.zeros(channels)
    size = count, height * width, channels
    given = gradient, maps, None, ones, shift, zeros, None, sums
    call("sum_gradients", *given, *size, ACTIVATIONS[activation])
    return sums[0]

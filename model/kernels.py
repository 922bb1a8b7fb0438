"""The project's own loops for processors with AMX, in C (`model/native/`), called with tensors.

All maps are (N, C, H, W) in bf16 with the channel innermost in memory; statistics and weights are
fp32. PyTorch's own operators pass over a map once for the maximum, twice or more for BatchNorm,
once for the activation, and back again; these do what they can in one pass (see docs/speed.md).
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from utils.native_code import library

ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2}


def call(name: str, *values: Tensor | int | float | None) -> None:
    """Call a function of the library; tensors are handed over as addresses."""
    loaded = library()
    assert isinstance(loaded, ctypes.CDLL)
    function = getattr(loaded, name)
    function.restype = None
    function(*map(as_argument, values))


def as_argument(value: Tensor | int | float | None) -> Any:
    """Return what C takes: an address, a `long` or a `double`."""
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_double(value)
    return ctypes.c_void_p() if value is None else ctypes.c_long(value)


def pixels_of(maps: Tensor) -> Tensor:
    """Return maps (N, C, H, W) as (N, H, W, C) bf16, one after the other in memory."""
    return maps.permute(0, 2, 3, 1).to(torch.bfloat16).contiguous()


def as_maps(pixels: Tensor) -> Tensor:
    """Return (N, H, W, C) as (N, C, H, W), channels_last."""
    return pixels.permute(0, 3, 1, 2)


def sized(pixels: Tensor, half: bool) -> tuple[int, int, int, int]:
    """Return the size of `pixels` (N, H, W, C), of half of it along H and W where asked."""
    count, height, width, channels = pixels.shape
    return (count, height // 2, width // 2, channels) if half else (count, height, width, channels)


def weight_gradient(images: Tensor, gradient: Tensor) -> Tensor:
    """Return a 3x3 convolution's weight gradient, fp32 (D, C, 3, 3); stride 1, padding 1.

    Args:
        images: (N, C, H, W).
        gradient: (N, D, H, W), of the outputs.
    """
    pixels, slopes = pixels_of(images), pixels_of(gradient)
    weight = torch.empty(slopes.shape[3], 3, 3, pixels.shape[3])
    call("weight_gradient", pixels, slopes, weight, *pixels.shape, slopes.shape[3])
    return as_maps(weight)


def scale_map(
    pixels: Tensor,
    other: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    half: bool,
    activation: str,
) -> Tensor:
    """Return `activation(scale * x + shift + other)`, x being `pixels` (N, H, W, C).

    Args:
        pixels: bf16.
        other: of the size of the result, bf16; None: nothing is added.
        scale: (C,) fp32.
        shift: (C,) fp32.
        half: whether x is the maximum of 2x2 pixels.
        activation: none, relu or gelu.
    """
    result = torch.empty(sized(pixels, half), dtype=torch.bfloat16)
    kind = ACTIVATIONS[activation]
    call("scale_map", pixels, other, scale, shift, result, *pixels.shape, int(half), kind)
    return result


def slope_sums(pixels: Tensor, gradient: Tensor, shift: Tensor, activation: str) -> Tensor:
    """Return the sums (C,) of the gradient of `activation(x + shift)` over all of x.

    Args:
        pixels: x, (N, H, W, C) bf16.
        gradient: of the activation's output, the same.
        shift: (C,) fp32.
        activation: as above.
    """
    count, height, width, channels = pixels.shape
    sums, ones = torch.empty(2, channels), torch.ones(channels)
    size = count, height * width, channels
    given = gradient, pixels, None, ones, shift, sums
    call("sum_gradients", *given, *size, ACTIVATIONS[activation])
    return sums[0]

"""Convolutions over small maps as one matrix product each: what AMX is best at.

All windows are laid down in one copy, padding included, and multiplied at once. On a 4x4 map that
is 44 % more arithmetic than `model/products.py` needs, but on a processor with AMX large products
are so much faster than PyTorch's convolution that it takes a third of the time (512 channels, 64
images, one core, PyTorch 2.14: forward 5.6 ms in place of 16, gradient of the weight 6.7 in place
of 39.5, of the images 5.6 in place of 15.5).

The functions are operators of PyTorch, so that `torch.compile` calls them as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.zones import outputs_along

IMAGES = 64  # whose windows are laid down at once: those of 500 would leave every cache


def windows(images: Tensor, kernel: int, stride: int) -> Tensor:
    """Return what each output meets of `images` (N, C, H, W), padded: (N * H' * W', K * K * C)."""
    count, channels, height, width = images.shape
    side = kernel // 2
    padding = (0, 0, side, side, side, side)
    pixels = functional.pad(images.permute(0, 2, 3, 1), padding).contiguous()
    image, row, pixel, channel = pixels.stride()
    size = [count, outputs_along(height, stride), outputs_along(width, stride)]
    steps = [image, stride * row, stride * pixel, row, pixel, channel]
    laid = pixels.as_strided([*size, kernel, kernel, channels], steps)
    return laid.reshape(-1, kernel * kernel * channels)


def as_rows(images: Tensor) -> Tensor:
    """Return `images` (N, C, H, W) as (N * H * W, C)."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def as_images(rows: Tensor, count: int, height: int, width: int) -> Tensor:
    """Return rows (N * H * W, C) as (N, C, H, W), channels_last."""
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)


@torch.library.custom_op("asd::unfolded_convolution", mutates_args=())
def convolve(images: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the convolution of `images` (N, C, H, W), padded by half a kernel: (N, D, H', W').

    `weight` is (D, C, K, K), K odd.
    """
    count, _, height, width = images.shape
    out, _, kernel, _ = weight.shape
    factors = weight.permute(0, 2, 3, 1).reshape(out, -1)
    parts = [
        functional.linear(windows(part, kernel, stride), factors) for part in images.split(IMAGES)
    ]
    rows = parts[0] if len(parts) == 1 else torch.cat(parts)
    return as_images(rows, count, outputs_along(height, stride), outputs_along(width, stride))


@convolve.register_fake
def _(images: Tensor, weight: Tensor, stride: int) -> Tensor:
    count, _, height, width = images.shape
    size = count, len(weight), outputs_along(height, stride), outputs_along(width, stride)
    return images.new_empty(size).to(memory_format=torch.channels_last)


@torch.library.custom_op("asd::unfolded_weight_gradient", mutates_args=())
def weight_gradient(images: Tensor, gradient: Tensor, kernel: int, stride: int) -> Tensor:
    """Return the gradient of the weight (D, C, K, K), from that of the outputs (N, D, H', W')."""
    rows = as_rows(gradient).t().contiguous()  # as it is the product takes a fifth longer
    taps = (rows @ windows(images, kernel, stride)).view(-1, kernel, kernel, images.shape[1])
    return taps.permute(0, 3, 1, 2)


@weight_gradient.register_fake
def _(images: Tensor, gradient: Tensor, kernel: int, stride: int) -> Tensor:
    size = gradient.shape[1], images.shape[1], kernel, kernel
    return images.new_empty(size).to(memory_format=torch.channels_last)


@torch.library.custom_op("asd::unfolded_image_gradient", mutates_args=())
def image_gradient(
    gradient: Tensor, weight: Tensor, height: int, width: int, stride: int
) -> Tensor:
    """Return the gradient of the images (N, C, height, width), from that of the outputs."""
    out, into, kernel, _ = weight.shape
    if stride == 1:  # itself a convolution, with the kernel turned round
        # Outputs before channels, as they lie in memory: the other way takes 14 ms for 512 of each.
        factors = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, into)
        rows = windows(gradient, kernel, 1) @ factors
        return as_images(rows, len(gradient), height, width)
    side, (count, _, down, right) = kernel // 2, gradient.shape
    factors = weight.permute(0, 2, 3, 1).reshape(out, -1)
    parts = (as_rows(gradient) @ factors).view(count, down, right, kernel, kernel, into)
    padded = gradient.new_zeros(count, height + 2 * side, width + 2 * side, into)
    for i in range(kernel):
        for j in range(kernel):
            rows_met = slice(i, i + (down - 1) * stride + 1, stride)
            met = slice(j, j + (right - 1) * stride + 1, stride)
            padded[:, rows_met, met] += parts[:, :, :, i, j]
    inner = padded[:, side : side + height, side : side + width]
    return inner.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


@image_gradient.register_fake
def _(gradient: Tensor, weight: Tensor, height: int, width: int, stride: int) -> Tensor:
    size = len(gradient), weight.shape[1], height, width
    return gradient.new_empty(size).to(memory_format=torch.channels_last)

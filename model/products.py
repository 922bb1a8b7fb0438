"""Convolutions over small maps as matrix products that leave the padding out.

On a 4x4 map three of ten factors of a padded 3x3 convolution are zeros. Outputs whose windows
reach the same taps (positions in the kernel) form a zone; each zone is one product, over those taps
alone.

For compiled code: no pixels are laid down here as a tensor of four dimensions, because the compiler
takes every such tensor for a feature map (N, C, H, W) and stores it with dimension 1 innermost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.zones import Zone, outputs_along, zone_of, zones

# From ranges of taps, down and right, to the matrix (taps * C, D) of their weights.
Matrix = Callable[[slice, slice], Tensor]


def as_pixels(images: Tensor) -> Tensor:
    """Return `images` (N, C, H, W) as (N, H, W, 1, C), see the top of the file."""
    return images.permute(0, 2, 3, 1)[:, :, :, None]


def windows(pixels: Tensor, down: Zone, right: Zone, kernel: int, stride: int) -> Tensor:
    """Return what the outputs of two zones meet under their taps, as rows.

    Args:
        pixels: (N, H, W, 1, C).
        down: h outputs and some taps along the height.
        right: w outputs and some taps along the width.
        kernel: taps along a side, odd.
        stride: inputs from one output to the next.

    Returns:
        (N * h * w, taps * C), the taps row by row of the kernel.
    """
    met = [
        pixels[:, down.inputs(i, kernel, stride), right.inputs(j, kernel, stride)]
        for i in range(down.first, down.end)
        for j in range(right.first, right.end)
    ]
    return torch.cat([part.reshape(-1, pixels.shape[-1]) for part in met], dim=1)


def convolve(images: Tensor, kernel: int, stride: int, channels: int, matrix: Matrix) -> Tensor:
    """Return the convolution of `images` (N, C, H, W), padded by half a kernel: (N, D, H', W').

    Args:
        images: of any floating type; sums are those of PyTorch's matrix product.
        kernel: taps along a side, odd.
        stride: inputs from one output to the next.
        channels: D.
        matrix: gives the weights (taps * C, D) of some taps, row by row of the kernel.
    """
    count, _, height, width = images.shape
    pixels = as_pixels(images)
    across = zones(width, kernel, stride)
    bands = []
    for down in zones(height, kernel, stride):
        parts = []
        for right in across:
            rows = windows(pixels, down, right, kernel, stride)
            product = rows @ matrix(down.taps(), right.taps())  # (N * h * w, D)
            parts.append(product.view(-1, right.stop - right.start, channels))
        bands.append(torch.cat(parts, dim=1).view(count, -1, channels))
    size = outputs_along(height, stride), outputs_along(width, stride)
    return torch.cat(bands, dim=1).view(count, *size, channels).permute(0, 3, 1, 2)


def weight_gradient(images: Tensor, gradient: Tensor, kernel: int, stride: int) -> Tensor:
    """Return the gradient of a convolution's weight (D, C, K, K), tap by tap.

    Args:
        images: (N, C, H, W), what was convolved.
        gradient: (N, D, H', W'), of the outputs.
        kernel: K.
        stride: inputs from one output to the next.
    """
    (_, into, height, width), out = images.shape, gradient.shape[1]
    pixels, slopes = as_pixels(images), as_pixels(gradient)
    across = [zone_of(tap, width, kernel, stride) for tap in range(kernel)]
    taps = []
    for down in [zone_of(tap, height, kernel, stride) for tap in range(kernel)]:
        for right in across:
            if down is None or right is None:
                taps.append(images.new_zeros(out, into))
                continue
            here = slopes[:, down.outputs(), right.outputs()].reshape(-1, out)
            taps.append(here.t() @ windows(pixels, down, right, kernel, stride))
    return torch.stack(taps, dim=1).view(out, kernel, kernel, into).permute(0, 3, 1, 2)

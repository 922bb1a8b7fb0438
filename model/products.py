"""Convolutions over small maps as matrix products that leave the padding out.

On a 4x4 map three of ten factors of a padded 3x3 convolution are zeros. Outputs whose windows
reach the same taps (positions in the kernel) form a zone; each zone is one product, over those taps
alone.

For compiled code: no pixels are laid down here as a tensor of four dimensions, because the compiler
takes every such tensor for a feature map (N, C, H, W) and stores it with dimension 1 innermost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# From ranges of taps, down and right, to the matrix (taps * C, D) of their weights.
Matrix = Callable[[slice, slice], Tensor]


class Zone(NamedTuple):
    """Outputs `start` to `stop` along one side of a map; all reach taps `first` to `end`."""

    start: int
    stop: int
    first: int
    end: int

    def taps(self) -> slice:
        """Return the taps."""
        return slice(self.first, self.end)

    def outputs(self) -> slice:
        """Return the outputs."""
        return slice(self.start, self.stop)

    def inputs(self, tap: int, kernel: int, stride: int) -> slice:
        """Return the inputs that the outputs meet under `tap`."""
        first = self.start * stride + tap - kernel // 2
        return slice(first, first + (self.stop - self.start - 1) * stride + 1, stride)


def outputs_along(size: int, stride: int) -> int:
    """Return how many outputs there are along a side of so many inputs."""
    return (size - 1) // stride + 1


def zones(size: int, kernel: int, stride: int) -> list[Zone]:
    """Return the zones along a side of `size` inputs, padded by half a kernel of odd size."""
    found: list[Zone] = []
    for output in range(outputs_along(size, stride)):
        origin = output * stride - kernel // 2  # the input under tap 0
        first, end = max(0, -origin), min(kernel, size - origin)
        same = bool(found) and found[-1][2:] == (first, end)
        start = found.pop().start if same else output
        found.append(Zone(start, output + 1, first, end))
    return found


def zone_of(tap: int, size: int, kernel: int, stride: int) -> Zone | None:
    """Return all outputs along a side that reach `tap`; None where it meets nothing but padding."""
    reaching = [zone for zone in zones(size, kernel, stride) if zone.first <= tap < zone.end]
    return Zone(reaching[0].start, reaching[-1].stop, tap, tap + 1) if reaching else None


def count_outputs(images: Tensor, stride: int) -> int:
    """Return how many outputs (N * H' * W') `images` (N, C, H, W) have, over all of them."""
    height, width = (outputs_along(size, stride) for size in images.shape[2:])
    return images.shape[0] * height * width


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


class Convolution(torch.autograd.Function):
    """A convolution with a square kernel whose weight gradient is made of matrix products."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Map `images` (N, C, H, W), padded by half a kernel, to (N, D, H', W').

        `weight` is (D, C, K, K).
        """
        ctx.save_for_backward(images, weight)
        ctx.stride = stride
        out, _, kernel, _ = weight.shape
        if not few_outputs(images, weight, stride):
            return functional.conv2d(images, weight, None, stride, kernel // 2)

        def matrix(down: slice, right: slice) -> Tensor:
            return weight[:, :, down, right].permute(0, 2, 3, 1).reshape(out, -1).t()

        return convolve(images, kernel, stride, out, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of images and weight."""
        images, weight = ctx.saved_tensors
        kernel, stride = weight.shape[2], ctx.stride
        into_weight = weight_gradient(images, gradients[0], kernel, stride)
        return image_gradient(images, weight, gradients[0], stride), into_weight, None


def few_outputs(images: Tensor, weight: Tensor, stride: int) -> bool:
    """Return whether products are faster than PyTorch's convolution (measured).

    They are where outputs are fewer than the factors of each, so that laying the windows down is
    little work; and for 1x1 kernels with a stride, which PyTorch is slow at.
    """
    out, kernel = weight.shape[0], weight.shape[2]
    few = count_outputs(images, stride) <= weight.numel() // out
    return few or (kernel == 1 and stride > 1)


def image_gradient(images: Tensor, weight: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """Return the gradient of a convolution's `images`: at stride 1 it is a convolution, too."""
    _, into, kernel, _ = weight.shape
    if stride == 1 and few_outputs(images, weight, stride):
        turned = weight.flip(2, 3)

        def matrix(down: slice, right: slice) -> Tensor:
            return turned[:, :, down, right].permute(2, 3, 0, 1).reshape(-1, into)

        return convolve(gradient, kernel, 1, into, matrix)
    sides = [stride] * 2, [kernel // 2] * 2, [1, 1]
    computed = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, *sides, False, [0, 0], 1, [True, False, False]
    )
    images_gradient: Tensor = computed[0]
    return images_gradient

"""Layers of which `torch.compile` makes faster code on a CPU; the mathematics is the usual one.

Outside of compiled code they are PyTorch's own, save where a network was told to use the project's
kernels in C, and for wide convolutions in bf16 on a processor with AMX, where products are so much
faster that they pay there, too. They replace the two parts of
a compiled step of the paper's network that lag far behind a matrix product of the same size (two
cores with AVX512_BF16, PyTorch 2.14): convolutions of many channels over small maps, which take up
to twice that time, and with AMX up to nine times (`model/convolution.py`), and the statistics of
BatchNorm, of which PyTorch updates a running mean value by value: sums over one image after the
other take a third of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.convolution import Convolution, OwnGradient
from model.following import FollowingBatchNorm2d
from model.fused import own_kernels
from model.zones import count_outputs
from utils.precision import convolution_dtype, has_amx, in_bf16

WIDE = 192  # channels
LARGE = 2**20  # numbers of a weight, in bf16 2 MiB
SMALL = 36  # pixels of a map


def mean_by_image(values: Tensor) -> Tensor:
    """Return the mean (C,) of `values` (N, C, H, W), summed within each image first."""
    return values.sum(dim=(2, 3)).sum(dim=0) / (values.numel() // values.shape[1])


def widened(values: Tensor) -> Tensor:
    """Return `values` in fp32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def narrowed(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `values` in `dtype`.

    Not asked of those that have it: what a function of autograd returns must not be what it was
    given in disguise, or PyTorch 2.11 translates a gradient of zeros.
    """
    return values if values.dtype == dtype else values.to(dtype)


class Normalisation(torch.autograd.Function):
    """BatchNorm in train mode (Ioffe and Szegedy 2015), with sums taken image by image."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised `images` (N, C, H, W), and mean and variance, each (C,)."""
        values = widened(images)
        mean = mean_by_image(values)
        centred = values - mean[:, None, None]
        variance = mean_by_image(centred.square())
        scale = torch.rsqrt(variance + epsilon)
        ctx.save_for_backward(images, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        normalised = centred * (weight * scale)[:, None, None] + bias[:, None, None]
        return narrowed(normalised, images.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of images, weight and bias."""
        images, weight, mean, scale = ctx.saved_tensors
        gradient = widened(gradients[0])
        normalised = (widened(images) - mean[:, None, None]) * scale[:, None, None]
        shift, slope = mean_by_image(gradient), mean_by_image(gradient * normalised)
        rest = gradient - shift[:, None, None] - normalised * slope[:, None, None]
        into_images = (rest * (weight * scale)[:, None, None]).to(images.dtype)
        count = images.numel() // images.shape[1]
        return into_images, slope * count, shift * count, None


class CompiledConv2d(nn.Conv2d):
    """A convolution that becomes matrix products where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, H', W')."""
        dtype = convolution_dtype(x)
        if own_kernels(self, dtype) and self.is_plain() and self.keeps_size():
            own: Tensor = OwnGradient.apply(x.to(dtype), self.weight, self.is_product(x))
            return own
        asked = torch.compiler.is_compiling() or self.is_wide(x)
        if not (asked and self.is_plain() and self.pays(x)):
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        convolved: Tensor = Convolution.apply(x, weight, self.stride[0])
        return convolved

    def is_plain(self) -> bool:
        """Return whether this is a convolution as `Convolution` computes it."""
        (kernel, other), stride = self.kernel_size, self.stride[0]
        return (
            kernel == other
            and kernel % 2 == 1
            and self.stride == (stride, stride)
            and self.padding == (kernel // 2, kernel // 2)
            and self.padding_mode == "zeros"
            and self.dilation == (1, 1)
            and self.groups == 1
            and self.bias is None
        )

    def is_wide(self, x: Tensor) -> bool:
        """Return whether products pay outside of compiled code, too: with AMX, and many channels.

        Narrower layers gain little, and published figures stay what they are, bit for bit.
        """
        if self.in_channels < WIDE:
            return False
        return in_bf16(x) and has_amx()

    def keeps_size(self) -> bool:
        """Return whether kernel and stride are those of `OwnGradient`."""
        return self.kernel_size == (3, 3) and self.stride == (1, 1)

    def is_product(self, x: Tensor) -> bool:
        """Return whether AMX is best used by one product over all windows (measured).

        PyTorch's convolution is as fast until its weight leaves the nearest large cache, and laying
        the windows of larger maps down takes longer than that costs.
        """
        large = self.weight.numel() > LARGE and x.shape[2] * x.shape[3] <= SMALL
        return large and in_bf16(x)

    def pays(self, x: Tensor) -> bool:
        """Return whether products give the weight gradient faster than PyTorch does (measured).

        They do where there are fewer outputs than factors of each (`Convolution` decides on its
        own which way to go forwards). A stride slows PyTorch's down, so then there may be more
        outputs, and any number with 1x1 kernels.
        """
        kernel, stride = self.kernel_size[0], self.stride[0]
        few = count_outputs(x, stride) <= (stride * kernel) ** 2 * self.in_channels
        return few or (kernel == 1 and stride > 1)


class CompiledBatchNorm2d(FollowingBatchNorm2d):
    """BatchNorm whose statistics are summed image by image."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        count = x.numel() // x.shape[1]
        usual = self.affine and self.track_running_stats and self.momentum is not None
        if not (torch.compiler.is_compiling() and self.training and usual and count > 1):
            return super().forward(x)
        normalised, mean, variance = Normalisation.apply(x, self.weight, self.bias, self.eps)
        self.follow(mean, variance, count)
        return normalised


COMPILED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: CompiledConv2d,
    nn.BatchNorm2d: CompiledBatchNorm2d,
}


def prepare(network: nn.Module) -> None:
    """Turn the layers of `network` into those of this file; their state stays what it is."""
    for module in network.modules():
        module.__class__ = COMPILED.get(type(module), type(module))

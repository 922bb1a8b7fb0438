"""Maximum, BatchNorm and activation in one: by own kernels where told, else as PyTorch has them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model import kernels
from model.kernels import dense, empty_maps, pixels_in, sized
from model.synchronised import SharedBatchNorm2d
from utils.precision import convolution_dtype

STATISTICS = 5  # mean, variance, scale, shift, 1 / deviation


class Normalised(torch.autograd.Function):
    """`activation(BatchNorm(maximum(x)) + other)` with the statistics of the batch."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        other: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm2d,
        half: bool,
        activation: str,
    ) -> Tensor:
        """Return the result (N, C, H', W'); the running statistics of `norm` follow."""
        maps, added = dense(images), None if other is None else dense(other.to(images.dtype))
        size, dtype = sized(maps, half), maps.dtype
        halves = empty_maps(size, dtype) if half else None
        which = empty_maps(size, torch.uint8) if half else None
        statistics, result = torch.empty(STATISTICS, size[1]), empty_maps(size, dtype)
        kernels.call(
            "normalise_map", maps, added, weight, bias, norm.eps,
            norm.running_mean, norm.running_var, norm.momentum,
            halves, which, statistics, result,
            *pixels_in(maps), half, kernels.ACTIVATIONS[activation],
        )  # fmt: skip
        ctx.save_for_backward(maps if halves is None else halves, added, which, statistics)
        ctx.size, ctx.kind = maps.shape, kernels.ACTIVATIONS[activation]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of images, other, weight and bias."""
        values, added, which, statistics = ctx.saved_tensors
        into_images = empty_maps(ctx.size, values.dtype)
        into_other = None if added is None else empty_maps(added.shape, values.dtype)
        affine = torch.empty(2, ctx.size[1])
        given = dense(gradients[0]), values, added, which, statistics
        made = into_images, into_other, affine
        kernels.call("normalise_gradient", *given, *made, *pixels_in(into_images), ctx.kind)
        return into_images, into_other, affine[0], affine[1], None, None, None


class Shifted(torch.autograd.Function):
    """`activation(x + bias)` of images that need no gradient themselves."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, bias: Tensor, activation: str) -> Tensor:
        """Return the result (N, C, H, W)."""
        maps = dense(images)
        ctx.save_for_backward(maps, bias)
        ctx.activation = activation
        return kernels.scale_map(maps, None, torch.ones_like(bias), bias, False, activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        """Return the gradient of the bias."""
        maps, bias = ctx.saved_tensors
        return None, kernels.slope_sums(maps, dense(gradients[0]), bias, ctx.activation), None


def activated(values: Tensor, activation: str) -> Tensor:
    """Return PyTorch's activation of `values`, which may be overwritten."""
    if activation == "gelu":
        return functional.gelu(values)
    return functional.relu(values, inplace=True) if activation == "relu" else values


def own_kernels(module: nn.Module, dtype: torch.dtype | None) -> bool:
    """Return whether `module` was told to use the project's own for `dtype`, and can now.

    `dtype` is that of maps on the CPU; None: they are elsewhere.
    """
    if torch.compiler.is_compiling() or dtype is None:
        return False
    # A hook wants to see what goes in and out of the module itself.
    seen = module._forward_hooks or module._forward_pre_hooks
    return getattr(module, "own_dtype", None) == dtype and not seen


def normalise(
    norm: nn.BatchNorm2d,
    images: Tensor,
    activation: str,
    half: bool = False,
    other: Tensor | None = None,
) -> Tensor:
    """Return `activation(norm(x) + other)`.

    Args:
        norm: BatchNorm, whose running statistics follow in train mode.
        images: x, (N, C, H, W).
        activation: none, relu or gelu.
        half: whether x is the maximum of 2x2 pixels of the images.
        other: of the size of the result; None: nothing is added.
    """
    here = images.dtype if images.device.type == "cpu" else None
    if own_kernels(norm, here) and is_usual(norm) and fits(norm, images, half, other):
        if norm.training and len(images) > 1:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            given = images, other, norm.weight, norm.bias, norm, half, activation
            return cast("Tensor", Normalised.apply(*given))
        if not norm.training and not torch.is_grad_enabled():
            return by_running_statistics(norm, images, activation, half, other)
    values = norm(functional.max_pool2d(images, 2) if half else images)
    return activated(values if other is None else values + other, activation)


def fits(norm: nn.BatchNorm2d, images: Tensor, half: bool, other: Tensor | None) -> bool:
    """Return whether all sizes are what C takes for granted; PyTorch says what is wrong of others.

    `other` is of the size of the result, and nothing is empty.
    """
    size = sized(images, half)
    same = other is None or other.shape == size
    return images.shape[1] == norm.num_features and same and min(size) > 0


def is_usual(norm: nn.BatchNorm2d) -> bool:
    """Return whether `norm` has a scale, and running statistics that follow at a constant rate.

    Those over the batches of all processes are none of this process's alone.
    """
    if isinstance(norm, SharedBatchNorm2d):
        return False
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def by_running_statistics(
    norm: nn.BatchNorm2d, images: Tensor, activation: str, half: bool, other: Tensor | None
) -> Tensor:
    """Return `normalise` in eval mode, without gradient."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    added = None if other is None else dense(other.to(images.dtype))
    return kernels.scale_map(dense(images), added, scale, shift, half, activation)


def convolved(layer: nn.Conv2d, images: Tensor, activation: str) -> Tensor:
    """Return `activation(layer(images))`; the bias is added together with the activation.

    For images that need no gradient, and a layer whose weight is none that is learnt.
    """
    learnt = images.requires_grad or layer.weight.requires_grad
    if layer.bias is None or learnt or not own_kernels(layer, convolution_dtype(images)):
        return activated(layer(images), activation)
    values = functional.conv2d(images, layer.weight, None, layer.stride, layer.padding)
    return cast("Tensor", Shifted.apply(values, layer.bias, activation))

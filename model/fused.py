"""Maximum, BatchNorm and activation in one: with AMX by own kernels, else as PyTorch has them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model import kernels
from model.following import FollowingBatchNorm2d
from model.kernels import as_maps, pixels_of, sized

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
        epsilon: float,
        half: bool,
        activation: str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result (N, C, H', W') in bf16, and mean and variance, each (C,) fp32."""
        pixels, added = pixels_of(images), None if other is None else pixels_of(other)
        size = sized(pixels, half)
        halves = torch.empty(size, dtype=torch.bfloat16) if half else None
        which = torch.empty(size, dtype=torch.uint8) if half else None
        statistics = torch.empty(STATISTICS, size[3])
        result = torch.empty(size, dtype=torch.bfloat16)
        given = pixels, added, weight.contiguous(), bias.contiguous(), epsilon
        made = halves, which, statistics, result
        kind = kernels.ACTIVATIONS[activation]
        kernels.call("normalise_map", *given, *made, *pixels.shape, int(half), kind)
        ctx.save_for_backward(pixels if halves is None else halves, added, which, statistics)
        ctx.size, ctx.kind = pixels.shape, kind
        mean, variance = statistics[0], statistics[1]
        ctx.mark_non_differentiable(mean, variance)
        return as_maps(result), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of images, other, weight and bias."""
        values, added, which, statistics = ctx.saved_tensors
        into_images = torch.empty(ctx.size, dtype=torch.bfloat16)
        into_other = None if added is None else torch.empty_like(added)
        affine = torch.empty(2, ctx.size[3])
        given = pixels_of(gradients[0]), values, added, which, statistics
        made = into_images, into_other, affine
        kernels.call("normalise_gradient", *given, *made, *ctx.size, ctx.kind)
        more = None if into_other is None else as_maps(into_other)
        return as_maps(into_images), more, affine[0], affine[1], None, None, None


class Shifted(torch.autograd.Function):
    """`activation(x + bias)` of images that need no gradient themselves."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, bias: Tensor, activation: str) -> Tensor:
        """Return the result (N, C, H, W) in bf16."""
        pixels, shift = pixels_of(images), bias.contiguous()
        ctx.save_for_backward(pixels, shift)
        ctx.activation = activation
        result = kernels.scale_map(pixels, None, torch.ones_like(shift), shift, False, activation)
        return as_maps(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        """Return the gradient of the bias."""
        pixels, shift = ctx.saved_tensors
        gradient = pixels_of(gradients[0])
        return None, kernels.slope_sums(pixels, gradient, shift, ctx.activation), None


def activated(values: Tensor, activation: str) -> Tensor:
    """Return PyTorch's activation of `values`, which may be overwritten."""
    if activation == "gelu":
        return functional.gelu(values)
    return functional.relu(values, inplace=True) if activation == "relu" else values


def own_kernels(module: nn.Module) -> bool:
    """Return whether `module` was told to use the project's own (`model/place.py`), and can now."""
    told = getattr(module, "own_kernels", False) and not torch.compiler.is_compiling()
    # A hook wants to see what goes in and out of the module itself.
    return bool(told and not module._forward_hooks and not module._forward_pre_hooks)


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
    usual = norm.affine and norm.track_running_stats and images.dtype == torch.bfloat16
    if usual and own_kernels(norm):
        with_statistics = norm.training and len(images) > 1 and norm.momentum is not None
        if with_statistics and isinstance(norm, FollowingBatchNorm2d):
            return by_batch(norm, images, activation, half, other)
        if not norm.training and not torch.is_grad_enabled():
            return by_running_statistics(norm, images, activation, half, other)
    values = norm(functional.max_pool2d(images, 2) if half else images)
    return activated(values if other is None else values + other, activation)


def by_batch(
    norm: FollowingBatchNorm2d, images: Tensor, activation: str, half: bool, other: Tensor | None
) -> Tensor:
    """Return `normalise` in train mode."""
    given = images, other, norm.weight, norm.bias, norm.eps, half, activation
    result, mean, variance = Normalised.apply(*given)
    norm.follow(mean, variance, result.numel() // result.shape[1])
    return cast("Tensor", result)


def by_running_statistics(
    norm: nn.BatchNorm2d, images: Tensor, activation: str, half: bool, other: Tensor | None
) -> Tensor:
    """Return `normalise` in eval mode, without gradient."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    added = None if other is None else pixels_of(other)
    pixels = pixels_of(images)
    return as_maps(kernels.scale_map(pixels, added, scale, shift, half, activation))


def convolved(layer: nn.Conv2d, images: Tensor, activation: str) -> Tensor:
    """Return `activation(layer(images))`; the bias is added together with the activation.

    For images that need no gradient, and a layer whose weight is none that is learnt.
    """
    learnt = images.requires_grad or layer.weight.requires_grad
    in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if layer.bias is None or learnt or not in_bf16 or not own_kernels(layer):
        return activated(layer(images), activation)
    values = functional.conv2d(images, layer.weight, None, layer.stride, layer.padding)
    return cast("Tensor", Shifted.apply(values, layer.bias, activation))

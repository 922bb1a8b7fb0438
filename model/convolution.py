"""A convolution that takes the fastest way to each of its three results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model import kernels, unfolded
from model.products import convolve, weight_gradient
from model.zones import count_outputs
from utils.precision import has_amx


class Convolution(torch.autograd.Function):
    """A convolution with a square kernel whose weight gradient is made of matrix products.

    With AMX each is a single large product, elsewhere there is one a zone, without the padding.
    """

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

        if unfolds(images):
            return unfolded.convolve(images, weight, stride)

        def matrix(down: slice, right: slice) -> Tensor:
            return weight[:, :, down, right].permute(0, 2, 3, 1).reshape(out, -1).t()

        return convolve(images, kernel, stride, out, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of images and weight."""
        images, weight = ctx.saved_tensors
        kernel, stride = weight.shape[2], ctx.stride
        ways = unfolded.weight_gradient if unfolds(images) else weight_gradient
        into_weight = ways(images, gradients[0], kernel, stride)
        return image_gradient(images, weight, gradients[0], stride), into_weight, None


class OwnGradient(torch.autograd.Function):
    """A 3x3 convolution with stride 1 and padding 1 whose weight gradient is the project's own."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, product: bool) -> Tensor:
        """Map `images` (N, C, H, W), in bf16 or fp32, to (N, D, H, W).

        `weight` (D, C, 3, 3) is fp32; `product` says whether all windows are laid down.
        """
        factors = weight.to(images.dtype)
        ctx.save_for_backward(images, factors)
        ctx.product = product
        if product:
            return unfolded.convolve(images, factors, 1)
        return functional.conv2d(images, factors, None, 1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of images and weight."""
        (images, factors), gradient = ctx.saved_tensors, gradients[0]
        into_images = into_weight = None
        if ctx.needs_input_grad[0]:
            size = images.shape[2:]
            into_images = (
                unfolded.image_gradient(gradient, factors, *size, 1)
                if ctx.product
                else usual_image_gradient(images, factors, gradient, 1)
            )
        if ctx.needs_input_grad[1]:
            into_weight = kernels.weight_gradient(images, gradient)
        return into_images, into_weight, None


def few_outputs(images: Tensor, weight: Tensor, stride: int) -> bool:
    """Return whether products are faster than PyTorch's convolution (measured).

    They are where outputs are fewer than the factors of each, so that laying the windows down is
    little work; and for 1x1 kernels with a stride, which PyTorch is slow at.
    """
    out, kernel = weight.shape[0], weight.shape[2]
    few = count_outputs(images, stride) <= weight.numel() // out
    return few or (kernel == 1 and stride > 1)


def unfolds(images: Tensor) -> bool:
    """Return whether one large product is faster than several small ones (measured)."""
    return images.dtype == torch.bfloat16 and images.device.type == "cpu" and has_amx()


def image_gradient(images: Tensor, weight: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """Return the gradient of a convolution's `images`: at stride 1 it is a convolution, too."""
    _, into, kernel, _ = weight.shape
    few = few_outputs(images, weight, stride)
    if few and unfolds(images):
        height, width = images.shape[2:]
        return unfolded.image_gradient(gradient, weight, height, width, stride)
    if few and stride == 1:
        turned = weight.flip(2, 3)

        def matrix(down: slice, right: slice) -> Tensor:
            return turned[:, :, down, right].permute(2, 3, 0, 1).reshape(-1, into)

        return convolve(gradient, kernel, 1, into, matrix)
    return usual_image_gradient(images, weight, gradient, stride)


def usual_image_gradient(images: Tensor, weight: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """Return the gradient of a convolution's `images` as PyTorch computes it."""
    sides = [stride] * 2, [weight.shape[2] // 2] * 2, [1, 1]
    computed = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, *sides, False, [0, 0], 1, [True, False, False]
    )
    images_gradient: Tensor = computed[0]
    return images_gradient

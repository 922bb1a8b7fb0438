"""Putting a network where a run computes, in the layout that its engine has chosen."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from model.compiled import prepare
from utils.engine import Engine
from utils.memory import keep_freed_memory
from utils.precision import has_amx

Module = TypeVar("Module", bound=nn.Module)


def place_network(network: Module, engine: Engine) -> Module:
    """Move `network` to the engine's device, in the layout of its feature maps; return it."""
    by_products = engine.compiled or (engine.bf16 and has_amx())
    if engine.device.type == "cpu" and (by_products or engine.own_kernels):
        prepare(network)
    for module in network.modules():  # of all: it may have been placed by another engine before
        module.own_dtype = engine.own_dtype  # type: ignore[assignment]
    if engine.own_kernels:
        keep_freed_memory()
    layout = torch.channels_last if engine.channels_last else torch.contiguous_format
    if not engine.channels_last:
        network.register_forward_pre_hook(channels_first)
    return network.to(engine.device, memory_format=layout)  # type: ignore[call-overload]


def channels_first(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a network's input in the usual memory order; a hook.

    Views are made from rows of pixels, which PyTorch takes for channels_last and then keeps in all
    feature maps, whatever the weights are: on narrow networks that corrupts memory, see
    `utils/engine.py`.
    """
    return tuple(images.contiguous() for images in arguments)

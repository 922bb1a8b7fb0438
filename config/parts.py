"""From a choice of the YAML to the part itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from utils.choice import Choice

if TYPE_CHECKING:
    pass


def build_optimizer(choice: Choice, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the chosen optimiser of PyTorch for `parameters`, as one fused kernel if it has one.

    On the CPU PyTorch's default goes through the parameters one by one, which costs a narrow
    network 15 % of a step (measured: 129 ms against 109 ms).
    """
    optimizer_class = getattr(torch.optim, choice.name)
    arguments = dict(choice.arguments)
    if "fused" in inspect.signature(optimizer_class).parameters:
        others = {"foreach", "differentiable", "capturable"} & arguments.keys()
        arguments.setdefault("fused", not others)
    optimizer: Optimizer = optimizer_class(parameters, **arguments)
    return optimizer


def build_scheduler(choice: Choice | None, optimizer: Optimizer) -> LRScheduler | None:
    """Return the chosen schedule of the learning rate, stepped once an epoch; None: constant."""
    if choice is None:
        return None
    scheduler: LRScheduler = getattr(lr_scheduler, choice.name)(optimizer, **choice.arguments)
    return scheduler

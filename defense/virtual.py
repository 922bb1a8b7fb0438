"""The virtual model of the meta-split: a copy that shows what the model would learn next."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from config.parts import build_criterion, build_optimizer
from defense.defense import Setting
from defense.supervised import supervised_step
from model import Network
from utils.console import progress
from utils.errors import InputError


def check_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Raise `InputError` if one of `layers` is the beginning of no parameter's name."""
    names = [name for name, _ in network.named_parameters()]
    for layer in layers:
        if not any(name.startswith(layer + ".") for name in names):
            raise InputError(f"meta.layers: the network has no layer {layer!r}")


def train_only(network: nn.Module, layers: Sequence[str]) -> list[nn.Parameter]:
    """Freeze all parameters but those of `layers` (prefixes of their names); return the latter.

    Frozen layers cost no gradient; the BatchNorm statistics of all layers still move, as in the
    published code.
    """
    prefixes = tuple(layer + "." for layer in layers)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def train_virtual_model(setting: Setting, epoch: int) -> Network:
    """Return a copy of the model after `meta.epoch` epochs on all samples with given labels.

    Supervised, with an optimiser of its own; the model itself is left as it is. The paper writes
    one gradient step where the published code takes whole epochs: `meta.train_iteration: 1`.
    """
    meta, count, device = setting.config.meta, len(setting.training), setting.engine.device
    virtual = copy.deepcopy(setting.network)
    optimizer = build_optimizer(
        meta.optimizer, train_only(virtual, meta.layers or virtual.meta_layers)
    )
    criterion = build_criterion(meta.criterion)
    order_stream = setting.streams.torch("virtual-order", epoch)
    draw_stream = setting.streams.torch("virtual-augment", epoch)
    batch_size = setting.config.loader.batch_size
    steps_left = meta.train_iteration or meta.epoch * -(-count // batch_size)
    virtual.train()
    with progress(range(steps_left), "virtual model", unit="step") as bar:
        while steps_left:
            order = torch.randperm(count, generator=order_stream).to(device)
            draws = setting.chain.draw(count, draw_stream).to(device)
            for start in range(0, count, batch_size)[:steps_left]:
                part = slice(start, min(start + batch_size, count))
                supervised_step(setting, virtual, optimizer, criterion, order[part], draws[part])
                steps_left -= 1
                bar.update()
    return virtual

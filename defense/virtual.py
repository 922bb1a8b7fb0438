"""The virtual model of the meta-split: a copy that shows what the model would learn next."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from data.feed import training_batches
from defense.defense import Setting
from loss import build_criterion
from model import Network
from training.supervised import Supervised
from training.torch_parts import build_optimizer
from utils.console import progress
from utils.device import send
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


def copy_into(virtual: Network | None, network: Network) -> Network:
    """Return a copy of `network`, in the memory of `virtual`, an earlier copy, if there is one."""
    if virtual is None:
        return copy.deepcopy(network)
    virtual.load_state_dict(network.state_dict())
    return virtual


def images_of_virtual_model(setting: Setting) -> int:
    """Return how many images, each as often as it comes by, a virtual model is trained on."""
    meta, count = setting.config.meta, len(setting.ground.training)
    if meta.train_iteration is None:
        return meta.epoch * count
    return meta.train_iteration * setting.config.loader.batch_size


def train_virtual_model(setting: Setting, epoch: int, reuse: Network | None = None) -> Network:
    """Return a copy of the model after `meta.epoch` epochs on all samples with given labels.

    Supervised, with an optimiser of its own; the model itself is left as it is. The paper writes
    one gradient step where the published code takes whole epochs: `meta.train_iteration: 1`.

    Args:
        setting: the model, data, augmentation.
        epoch: 0-based.
        reuse: the virtual model of an earlier epoch, whose memory is taken.
    """
    meta, ground = setting.config.meta, setting.ground
    count, device = len(ground.training), ground.engine.device
    virtual = copy_into(reuse, setting.learner.model_for("virtual"))
    optimizer = build_optimizer(
        meta.optimizer, train_only(virtual, meta.layers or virtual.meta_layers)
    )
    supervised = Supervised(ground, virtual, optimizer, build_criterion(meta.criterion))
    order_stream = ground.streams.torch("virtual-order", epoch)
    draw_stream = ground.streams.torch("virtual-augment", epoch)
    batch_size = setting.config.loader.batch_size
    in_epoch = len(training_batches(count, batch_size))
    steps_left = meta.train_iteration or meta.epoch * in_epoch
    virtual.train()
    with progress(range(steps_left), "virtual model", unit="step") as bar:
        while steps_left:
            order = torch.randperm(count, generator=order_stream)
            if steps_left < in_epoch:
                order = order[: steps_left * batch_size]
            draws = ground.chain.draw(count, draw_stream).to(device)
            for _ in supervised.steps(send(order, device), draws, batch_size):
                steps_left -= 1
                ground.engine.world.glance()
                bar.update()
    ground.engine.world.same_buffers(virtual)
    return virtual

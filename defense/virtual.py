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
from utils.translation import Steps


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


def images_of_virtual_model(setting: Setting) -> int:
    """Return how many images, each as often as it comes by, a virtual model is trained on."""
    meta, count = setting.config.meta, len(setting.ground.training)
    if meta.train_iteration is None:
        return meta.epoch * count
    return meta.train_iteration * setting.config.loader.batch_size


class VirtualModel:
    """Trains a copy of the model on all samples with their given labels, anew for each split.

    The paper writes one gradient step where the published code takes whole epochs:
    `meta.train_iteration: 1`. What is kept between splits is memory and the translated step; all
    that is computed follows from the model and the epoch.

    Args:
        setting: the model, data, augmentation.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.network: Network | None = None
        self.supervised: Supervised | None = None

    @property
    def steps_each(self) -> int:
        """Steps of one virtual model."""
        meta, count = self.setting.config.meta, len(self.setting.ground.training)
        in_epoch = len(training_batches(count, self.setting.config.loader.batch_size))
        return meta.train_iteration or meta.epoch * in_epoch

    def steps_of(self, splits: int) -> Steps:
        """Return the steps of so many virtual models."""
        return Steps(splits * self.steps_each, 1, 1, self.setting.config.loader.batch_size)

    def trained(self, epoch: int) -> Network:
        """Return the copy after `meta.epoch` epochs; the model itself is left as it is.

        Args:
            epoch: of the run, 0-based.
        """
        network, supervised = self._begin()
        setting, ground = self.setting, self.setting.ground
        count, device = len(ground.training), ground.engine.device
        order_stream = ground.streams.torch("virtual-order", epoch)
        draw_stream = ground.streams.torch("virtual-augment", epoch)
        batch_size = setting.config.loader.batch_size
        in_epoch = len(training_batches(count, batch_size))
        steps_left = self.steps_each
        network.train()
        with progress(range(steps_left), "virtual model", unit="step") as bar:
            while steps_left:
                order = torch.randperm(count, generator=order_stream)
                if steps_left < in_epoch:
                    order = order[: steps_left * batch_size]
                draws = ground.chain.draw(count, draw_stream).to(device)
                for _ in supervised.steps(send(order, device), draws, batch_size):
                    steps_left -= 1
                    ground.engine.world.poll_interrupt()
                    bar.update()
        ground.engine.world.same_buffers(network)
        return network

    def _begin(self) -> tuple[Network, Supervised]:
        """Copy the model as it is; the optimiser is a fresh one."""
        meta, model = self.setting.config.meta, self.setting.learner.model_for("virtual")
        network = copy.deepcopy(model) if self.network is None else self.network
        network.load_state_dict(model.state_dict())
        learnt = train_only(network, meta.layers or network.meta_layers)
        optimizer = build_optimizer(meta.optimizer, learnt)
        if self.supervised is None:
            criterion = build_criterion(meta.criterion)
            self.supervised = Supervised(self.setting.ground, network, optimizer, criterion)
        self.network, self.supervised.optimizer = network, optimizer
        return network, self.supervised

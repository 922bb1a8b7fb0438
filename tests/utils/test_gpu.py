"""The path to a GPU, as far as a machine without one can tell.

PyTorch's fake tensors have a device, a shape and a type, but no memory. Work on those of `cuda:0`
fails where two devices meet, and where the host would have to wait for a number of the device. It
shows neither that the numbers are right nor that there is a kernel for them, and it leaves out the
backward pass, for which PyTorch wants a real GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import ASD
from command.arguments import parse_arguments
from defense.defense import Setting
from defense.split import kth_smallest
from defense.virtual import train_only
from loss import CRITERIA, build_criterion
from run.measure import predictions
from run.setup import set_up
from training.draws import EpochDraws
from training.learner import Learner
from training.mixmatch import MixMatch
from training.record import record_losses
from training.supervised import Supervised
from training.torch_parts import build_optimizer
from utils.engine import Engine
from utils.interrupt import Interrupt

GPU = torch.device("cuda:0")


@pytest.fixture
def setting(tiny_arguments: list[str]) -> Setting:
    """A real run's setting, on the CPU."""
    arguments = parse_arguments([*tiny_arguments, "network={resnet18_cifar: {width: 16}}"])
    return ASD.prepare(set_up(arguments, Interrupt())).defense.setting


@pytest.fixture
def draws(setting: Setting) -> EpochDraws:
    """The random part of its first epoch, on the CPU: which samples a pool has is real."""
    return EpochDraws(
        setting.ground,
        setting.config.semi,
        torch.arange(len(setting.ground.training)) % 2 == 0,
        0,
    )


@pytest.fixture
def fake(setting: Setting, draws: EpochDraws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    """The setting on a GPU, as fake tensors, while all that is made is fake."""
    monkeypatch.setattr(Tensor, "backward", lambda loss: None)
    monkeypatch.setattr(Tensor, "pin_memory", lambda values: values)  # fakes have none to pin
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            setting.ground.training.images.to(GPU)
    except RuntimeError as error:  # PyTorch 2.6
        pytest.skip(f"fake tensors of a GPU need its driver here: {str(error)[:60]}")
    with FakeTensorMode(allow_non_fake_inputs=True):
        real, network = setting.ground.training, setting.learner.network
        training = replace(real, images=real.images.to(GPU), labels=real.labels.to(GPU))
        move(network)
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        engine = Engine(GPU, channels_last=True)
        ground = replace(setting.ground, training=training, engine=engine)
        yield replace(setting, ground=ground, learner=Learner(network, optimizer))


def move(network: nn.Module) -> None:
    """Put weights and statistics on the GPU; `Module.to` cannot do it with fake tensors."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            module._parameters[name] = None if weight is None else nn.Parameter(weight.to(GPU))
        for name, statistic in module._buffers.items():
            module._buffers[name] = None if statistic is None else statistic.to(GPU)


def moved(value: Any) -> Any:
    """Return tensors and draws on the GPU, also those in a list; anything else as it is."""
    if isinstance(value, list):
        return [moved(part) for part in value]
    return value.to(GPU) if hasattr(value, "to") else value


def test_the_fakes_notice_a_wait_and_a_second_device(fake: Setting) -> None:
    labels = fake.ground.training.labels
    with pytest.raises(RuntimeError, match="device"):
        labels + torch.ones(len(labels), dtype=torch.int64)
    with pytest.raises(Exception, match="local_scalar_dense"):
        int(labels.sum())


def test_mixmatch_steps_stay_on_the_gpu_and_wait_for_nothing(
    fake: Setting, draws: EpochDraws
) -> None:
    for name, value in vars(draws).items():
        setattr(draws, name, moved(value))
    draws.ground = fake.ground
    mixmatch = MixMatch(
        fake.learner.network.train(), fake.learner.optimizer, fake.ground.engine, 0.5
    )
    totals = torch.zeros(3, device=GPU)
    for batch, mix in draws.batches(0):
        totals += mixmatch.step(batch, mix, 15.0)
    assert totals.device == GPU


def test_virtual_steps_stay_on_the_gpu_and_wait_for_nothing(
    fake: Setting, draws: EpochDraws
) -> None:
    meta = fake.config.meta
    trained = train_only(fake.learner.network.train(), fake.learner.network.meta_layers)
    optimizer, criterion = build_optimizer(meta.optimizer, trained), build_criterion(meta.criterion)
    supervised = Supervised(fake.ground, fake.learner.network, optimizer, criterion)
    order = torch.arange(48, device=GPU)
    views = moved(draws.labelled_views)
    losses = [loss.device for loss in supervised.steps(order, views, batch_size=16)]
    assert losses == [GPU] * 3


@pytest.mark.parametrize("name", list(CRITERIA))
def test_the_record_pass_and_its_threshold_stay_on_the_gpu(fake: Setting, name: str) -> None:
    criterion = CRITERIA.get(name)(CRITERIA.get(name).Settings())
    losses = record_losses(fake.learner.network, fake.ground, criterion, torch.Generator())
    assert losses.device == GPU
    assert losses.shape == (len(fake.ground.training),)
    assert kth_smallest(losses, 7).device == GPU


@pytest.mark.parametrize("kind", ["record", "test", "draws of an epoch"])
def test_passes_send_their_numbers_pinned_and_wait_for_none(
    fake: Setting, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """All that crosses to the GPU comes from pinned memory, without a wait."""
    sent: list[tuple[bool, bool]] = []
    pinned: set[int] = set()
    plain_to = Tensor.to

    def pin(values: Tensor) -> Tensor:
        pinned.add(id(values))
        return values

    def watch(values: Tensor, *given: Any, **more: Any) -> Tensor:
        if given and given[0] == GPU and values.device.type == "cpu" and values.dim():
            sent.append((id(values) in pinned, more.get("non_blocking", False)))
            pinned.discard(id(values))
        return plain_to(values, *given, **more)

    network, ground = fake.learner.network, fake.ground
    kept = moved(ground.chain.draw(2, torch.Generator()))
    ground.chain.view(ground.training.images, torch.arange(2, device=GPU), kept)  # its constants
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", watch)
    if kind == "record":
        criterion = build_criterion(fake.config.split.criterion)
        record_losses(network, ground, criterion, torch.Generator())
    elif kind == "test":
        images = plain_to(ground.training.images, "cpu")
        predictions(network, images, ground.chain, ground.engine, 100)
    else:
        ground.chain.draw(48, torch.Generator()).to(GPU)
    assert sent
    assert all(was_pinned and unwaited for was_pinned, unwaited in sent)


def test_the_test_pass_ends_on_the_cpu(fake: Setting) -> None:
    images = fake.ground.training.images.cpu()
    predicted = predictions(
        fake.learner.network, images, fake.ground.chain, fake.ground.engine, 100
    )
    assert predicted.device.type == "cpu"
    assert predicted.shape == (len(images),)

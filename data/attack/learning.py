"""What attacks that train networks have in common: views, batches, rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from data.attack.attack import AttackContext
from data.dataset import Split
from data.transform import Chain, Normalize, Transformation
from data.transform.crop import RandomCrop
from data.transform.flip import RandomHorizontalFlip
from model import NETWORKS, Network, NetworkChoice, build_network
from utils.choice import Choice
from utils.errors import InputError, TrainingError
from utils.section import Section
from utils.streams import Streams

# The learning rate falls to a tenth after these shares of the epochs: later than in the published
# schedules, which are many times longer.
DECAYS = (0.6, 0.9)
JUDGED = 1000  # test images on which an attacker looks at the result
Item = TypeVar("Item")


class LearningSettings(Section):
    """Settings of every attack that trains a classifier of its own.

    `network`: its kind. `padding`, `flip`: augmentation, a random crop after so many pixels of
    padding (square images only) and mirroring; a mirrored digit or traffic sign is another one.
    """

    network: NetworkChoice = Field(default={"resnet18_cifar": None}, validate_default=True)
    batch_size: int = Field(default=128, ge=2)
    padding: int = Field(default=4, ge=0)
    flip: bool = True


def statistics(images: Tensor) -> Normalize:
    """Return mean and standard deviation of each channel of images (N, H, W, 3) uint8, in 0..1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(3):
        # Counted, not summed: exact, and without a copy of all images in floating point.
        counts = torch.bincount(images[..., channel].flatten(), minlength=256).double()
        share = counts / counts.sum()
        mean = float((share * values).sum())
        means.append(mean)
        deviations.append(max(float((share * (values - mean) ** 2).sum()) ** 0.5, 1e-3))
    return Normalize(mean=means, std=deviations)


def augmentation(
    settings: LearningSettings, normalize: Normalize, context: AttackContext, key: str
) -> Chain:
    """Return the chain of training views; `key` leads to the settings, for messages.

    Raises:
        InputError: the padding is as large as the image.
    """
    height, width = context.height, context.width
    if settings.padding >= min(height, width):
        raise InputError(
            f"{key}.padding: {settings.padding} is too much for {height}x{width} images; lower it"
        )
    steps: list[Transformation] = []
    if height == width and settings.padding:
        crop = {"size": height, "padding": settings.padding, "padding_mode": "reflect"}
        steps.append(RandomCrop(RandomCrop.Settings.model_validate(crop)))
    if settings.flip:
        steps.append(RandomHorizontalFlip(RandomHorizontalFlip.Settings()))
    return Chain(steps, normalize, height, width)


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of the indices 0..count-1 in random order; a rest is left for another epoch.

    A batch of one would leave BatchNorm nothing to compare; fewer than `batch_size` are one batch.
    """
    order = torch.randperm(count, generator=generator)
    for batch in range(max(1, count // batch_size)):
        yield order[batch * batch_size : (batch + 1) * batch_size]


def views(chain: Chain, images: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    """Return augmented, normalised views (n, 3, H, W) float32 of the samples `index` (n,).

    Args:
        chain: the augmentation.
        images: (N, H, W, 3) uint8, on the device.
        index: (n,) int64, on any device.
        generator: for the augmentation.
    """
    device = images.device
    draws = chain.draw(len(index), generator).to(device)
    # In the usual memory order: convolutions of few channels are unsafe in channels_last.
    return chain.view(images, index.to(device), draws).contiguous()


def colours(normalize: Normalize, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and std, each (3, 1, 1), in which normalised images are counted."""
    numbers = torch.tensor([normalize.mean, normalize.std], device=device)[:, :, None, None]
    return numbers[0], numbers[1]


def set_rate(optimizer: Optimizer, rate: float, epoch: int, epochs: int) -> None:
    """Set the learning rate of an epoch; a function of its number, so that nothing is to resume."""
    tenths = sum(epoch >= share * epochs for share in DECAYS)
    for group in optimizer.param_groups:
        group["lr"] = rate / 10**tenths


def step(loss: Tensor, *optimizers: Optimizer) -> None:
    """Let the optimisers take a step down the gradient of `loss`."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def descend(
    batches: Iterable[Item], loss_of: Callable[[Item], Tensor], what: str, *optimizers: Optimizer
) -> None:
    """Let the optimisers take a step on each of an epoch's batches.

    Args:
        batches: what `loss_of` is asked about, one after another.
        loss_of: returns the loss of a batch, a scalar with gradient.
        what: is trained, for the message.
        optimizers: of all that is trained.

    Raises:
        TrainingError: the epoch's loss is not finite. Looked at once, since a look waits for the
            device.
    """
    total: float | Tensor = 0.0
    for batch in batches:
        loss = loss_of(batch)
        step(loss, *optimizers)
        total = total + loss.detach()
    if not math.isfinite(total):
        raise TrainingError(f"{what}: the loss is not finite; lower the attack's learning rates")


def judged(test: Split) -> tuple[Tensor, Tensor]:
    """Return images and labels of at most `JUDGED` test images, from all over the set.

    Folders are listed class by class, so the first images would be of a few classes.
    """
    index = torch.arange(0, len(test), max(1, -(-len(test) // JUDGED)))
    return test.images[index], test.labels[index]


def build_classifier(
    choice: Choice, num_classes: int, streams: Streams, device: torch.device
) -> Network:
    """Return an untrained classifier of the attacker's, on the device."""
    state = streams.state("attack-network")
    return build_network(NETWORKS.get(choice.name), choice.settings, num_classes, state).to(device)


@torch.no_grad()
def share_predicted(
    network: nn.Module, images: Tensor, labels: Tensor, chain: Chain
) -> float | None:
    """Return the share of images (N, H, W, 3) uint8 that the network gives their labels (N,).

    None where there are no images.

    Args:
        network: in eval mode.
        images: on the CPU.
        labels: on the CPU.
        chain: without random steps.
    """
    if not len(images):
        return None
    device = next(network.parameters()).device
    nothing, right = torch.Generator(), 0
    for start in range(0, len(images), 500):
        batch = images[start : start + 500].to(device)
        logits = network(views(chain, batch, torch.arange(len(batch)), nothing))
        right += int((logits.argmax(dim=1).cpu() == labels[start : start + 500]).sum())
    return right / len(images)


def repeatable_convolutions() -> AbstractContextManager[None]:
    """Return a context in which a GPU computes the same image alike every time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)

"""The pass that measures every sample's loss, on which all splits rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.feed import Feed, consecutive
from loss import Criterion
from training.ground import Ground
from utils.console import progress


@dataclass(frozen=True)
class Record:
    """What a network says of every sample, on the device.

    Attributes:
        loss: (N,) float32, for the given label.
        agrees: (N,) bool, whether the network gives that label by itself.
    """

    loss: Tensor
    agrees: Tensor


def record_losses(
    network: nn.Module, ground: Ground, criterion: Criterion, generator: torch.Generator
) -> Tensor:
    """Return the losses alone; see `record`."""
    return record(network, ground, criterion, generator).loss


@torch.no_grad()
def record(
    network: nn.Module,
    ground: Ground,
    criterion: Criterion,
    generator: torch.Generator,
    augmented: bool = True,
) -> Record:
    """Return the loss of every sample for its given label, and whether the network agrees.

    The network is in eval mode; the images are seen through one view, `augmented` as in
    training, which is the published code's way, or plain.
    """
    network.eval()
    training, chain, engine = ground.training, ground.seen(augmented), ground.engine
    count = len(training)
    draws = chain.draw(count, generator)
    losses = torch.empty(count, device=engine.device)
    agrees = torch.empty(count, device=engine.device)  # 0 or 1: numbers travel between processes
    own = engine.world.share(count)
    parts = consecutive(own.start, own.stop, ground.evaluation_batch)
    feed = Feed(training, torch.arange(count, device=engine.device), parts)
    watched = engine.world.watched(parts, count, ground.evaluation_batch)
    bar = progress(watched, "record", unit="batch", total=len(parts))
    for part, (images, index) in zip(bar, feed, strict=True):
        views = chain.view(images, index, draws[part].to(engine.device))
        with engine.autocast():
            logits = network(views)
        labels = training.labels[part]
        losses[part] = criterion.per_sample(logits, labels)
        agrees[part] = (logits.argmax(dim=1) == labels).float()
    gather = engine.world.gather
    return Record(gather(losses[own], count), gather(agrees[own], count) > 0)

"""The pass that measures every sample's loss, on which all splits rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.feed import Feed, consecutive
from loss import Criterion
from training.ground import Ground
from utils.console import progress


@torch.no_grad()
def record_losses(
    network: nn.Module,
    ground: Ground,
    criterion: Criterion,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss (N,) float32 of every sample for its given label, on the device.

    The network is in eval mode; the images are seen through one view of the chain, which in the
    published code is the augmentation of training.
    """
    network.eval()
    training, chain, engine = ground.training, ground.chain, ground.engine
    count = len(training)
    draws = chain.draw(count, generator)
    losses = torch.empty(count, device=engine.device)
    own = engine.world.share(count)
    parts = consecutive(own.start, own.stop, ground.evaluation_batch)
    feed = Feed(training, torch.arange(count, device=engine.device), parts)
    watched = engine.world.watched(parts, count, ground.evaluation_batch)
    bar = progress(watched, "record", unit="batch", total=len(parts))
    for part, (images, index) in zip(bar, feed, strict=True):
        views = chain.view(images, index, draws[part].to(engine.device))
        with engine.autocast():
            logits = network(views)
        losses[part] = criterion.per_sample(logits, training.labels[part])
    return engine.world.gather(losses[own], count)

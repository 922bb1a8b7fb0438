"""The pass that measures every sample's loss, on which all splits rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.poison import TrainingSet
from data.transform import Chain
from loss import Criterion
from utils.console import progress
from utils.device import Engine


@torch.no_grad()
def record_losses(
    network: nn.Module,
    training: TrainingSet,
    chain: Chain,
    criterion: Criterion,
    generator: torch.Generator,
    engine: Engine,
    batch_size: int,
) -> Tensor:
    """Return the loss (N,) float32 of every sample for its given label, on the device.

    The network is in eval mode; the images are seen through one view of `chain`, which in the
    published code is the augmentation of training.
    """
    network.eval()
    count = len(training)
    draws = chain.draw(count, generator)
    losses = torch.empty(count, device=engine.device)
    for start in progress(range(0, count, batch_size), "record", unit="batch"):
        part = slice(start, min(start + batch_size, count))
        index = torch.arange(part.start, part.stop, device=engine.device)
        views = chain.view(training.images, index, draws[part].to(engine.device))
        with engine.autocast():
            logits = network(views)
        losses[part] = criterion.per_sample(logits, training.labels[part])
    return losses

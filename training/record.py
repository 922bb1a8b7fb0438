"""The pass that measures every sample's loss, on which all splits rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loss import Criterion
from training.ground import Ground
from training.passes import Pass, answers
from utils.errors import TrainingError


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
    training, chain, engine = ground.training, ground.seen(augmented), ground.engine
    count = len(training)
    losses = torch.empty(count, device=engine.device)
    agrees = torch.empty(count, device=engine.device)  # 0 or 1: numbers travel between processes
    way = Pass(chain, engine, ground.evaluation_batch, "record")
    for part, logits in answers(network, training, way, generator):
        labels = training.labels[part]
        losses[part] = criterion.per_sample(logits, labels)
        agrees[part] = (logits.argmax(dim=1) == labels).float()
    own, gather = engine.world.share(count), engine.world.gather
    return Record(gather(losses[own], count), gather(agrees[own], count) > 0)


def refuse_not_finite(loss: Tensor, epoch: int) -> None:
    """Raise `TrainingError` if a sample's loss, of (N,), is no number to split by."""
    if not bool(loss.isfinite().all()):
        raise TrainingError(f"epoch {epoch}: a sample's loss is not finite")

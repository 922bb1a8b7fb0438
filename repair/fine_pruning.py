"""Fine-pruning (Liu et al., RAID 2018): take away what clean images do not use, then fine-tune.

A channel of the last stage's output, pooled over its positions, is an input of the classifier;
taking it away is a column of zeros there. So the choice needs one pass, and no copy of the network.
Channels are ranked by what the classifier gets of them. That is the mean activation, as published,
where a network pools by the mean; `fastnet` takes the highest one, and so does this.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR

from model import Network
from model.features import captured_features
from repair.repair import Repair, Repaired, refuse_not_finite
from utils.console import progress
from utils.errors import InputError
from utils.section import Section


def prune_order(features: Tensor) -> Tensor:
    """Return the channels (F,) from the least to the most used by clean samples.

    Args:
        features: (n, F), the classifier's inputs. Of a transformer they may be negative; how far
            from zero they are is what counts. After a ReLU it is the mean activation.
    """
    return features.double().abs().mean(dim=0).argsort(stable=True)


def accuracy(features: Tensor, labels: Tensor, linear: nn.Linear, pruned: Tensor) -> float:
    """Return the share of samples that `linear` gets right without the channels `pruned` (k,)."""
    kept = features.clone()
    kept[:, pruned] = 0
    return float((linear(kept).argmax(dim=1) == labels).double().mean())


def prune_counts(channels: int, step: float) -> Iterator[int]:
    """Yield how many channels are tried to be pruned, `step` of all at a time, and never all."""
    yield from range(max(1, round(step * channels)), channels, max(1, round(step * channels)))


def how_many(
    features: Tensor, labels: Tensor, linear: nn.Linear, order: Tensor, step: float, drop: float
) -> int:
    """Return the largest tried count before accuracy falls by more than the relative `drop`.

    The last one that was good, not the first that was not.
    """
    least = (1 - drop) * accuracy(features, labels, linear, order[:0])
    good = 0
    for count in prune_counts(len(order), step):
        if accuracy(features, labels, linear, order[:count]) < least:
            break
        good = count
    return good


class FinePruning(Repair):
    """Prunes while a held-out part of the clean samples stays right, then fine-tunes the rest."""

    class Settings(Section):
        """Defaults: BackdoorBench's, which stops on test images where this stops on held-out ones.

        `step`: share of the channels that is pruned at a time. `largest_drop`: of the accuracy, as
        a share of it. `held_out`: share of the clean samples on which that is measured.
        """

        step: float = Field(default=0.01, gt=0, lt=1)
        largest_drop: float = Field(default=0.1, ge=0, lt=1)
        held_out: float = Field(default=0.2, gt=0, lt=1)
        num_epochs: int = Field(default=100, ge=0)
        batch_size: int = Field(default=256, ge=2)
        learning_rate: float = Field(default=0.01, gt=0)
        momentum: float = Field(default=0.9, ge=0, lt=1)
        weight_decay: float = Field(default=5e-4, ge=0)

    def repair(self, network: Network) -> Repaired:
        """Return the pruned and fine-tuned network."""
        network = copy.deepcopy(network)
        pruned = self.choose(network)
        take_away(network.linear, pruned)
        summary = {"pruned_channels": len(pruned), "channels": network.linear.in_features}
        return Repaired(network, self.fine_tune(network, pruned), summary)

    @torch.no_grad()
    def choose(self, network: Network) -> Tensor:
        """Return the channels (k,) to prune.

        Raises:
            InputError: too few clean samples to hold some out.
        """
        setting, device = self.setting, self.setting.engine.device
        count = len(setting.clean)
        shuffled = torch.randperm(count, generator=setting.streams.torch("repair-held-out"))
        held_out = round(self.settings.held_out * count)
        if not 0 < held_out < count:
            raise InputError(
                f"repair.fine_pruning.held_out: {self.settings.held_out} of {count} clean samples "
                f"leaves none on one side; give more clean samples"
            )
        judge, measure = shuffled[:held_out].to(device), shuffled[held_out:].to(device)
        order = prune_order(self.features(network, measure))
        settings, linear = self.settings, network.linear
        features, labels = self.features(network, judge), setting.clean.labels[judge]
        best = how_many(features, labels, linear, order, settings.step, settings.largest_drop)
        return order[:best]

    def features(self, network: Network, index: Tensor) -> Tensor:
        """Return the classifier's inputs (n, F) fp32 for the clean samples `index` (n,)."""
        network.eval()
        with captured_features(network) as found, self.setting.engine.autocast():
            for views in self.setting.plain_views(index, self.settings.batch_size):
                network(views)
        return torch.cat(found)

    def fine_tune(self, network: Network, pruned: Tensor) -> list[dict[str, Any]]:
        """Train on the clean samples; what is pruned is pruned again after every step."""
        settings = self.settings
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        schedule = CosineAnnealingLR(optimizer, max(1, settings.num_epochs))
        rows: list[dict[str, Any]] = []
        for epoch in progress(range(settings.num_epochs), "fine-tune", unit="epoch"):
            losses = []
            network.train()
            for batch in self.setting.batches(
                settings.batch_size, "repair-order", "repair-augment", epoch
            ):
                losses.append(self.step(network, optimizer, batch, pruned))
            total = torch.stack(losses).mean()
            refuse_not_finite(total, "fine_pruning", epoch)
            rows.append({"epoch": epoch, "stage": "fine-tune", "loss": float(total)})
            schedule.step()
        return rows

    def step(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        batch: tuple[Tensor, Tensor],
        pruned: Tensor,
    ) -> Tensor:
        """Take one step on views and labels; return the loss, a scalar."""
        views, labels = batch
        with self.setting.engine.autocast():
            logits = network(views)
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        take_away(network.linear, pruned)
        return loss.detach()


@torch.no_grad()
def take_away(linear: nn.Linear, pruned: Tensor) -> None:
    """Set the columns `pruned` (k,) of a classifier's weights to zero."""
    linear.weight[:, pruned] = 0

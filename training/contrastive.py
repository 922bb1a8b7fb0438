"""Steps of SimCLR: two views of a sample shall look alike, those of different samples shall not.

No label is used, so poison cannot teach its target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from data.feed import Feed, consecutive
from data.transform import Draws
from loss.contrastive import nt_xent
from model import Network
from model.features import captured_features
from model.projection import ProjectionHead, at_least_single
from training.ground import Ground
from training.supervised import within


class Contrastive:
    """Takes contrastive steps on the backbone of a network and a projection head.

    The network's linear layer is no part of it and must be frozen by the caller.

    Args:
        ground: data, device; its chain makes the views that are compared.
        network: in train mode.
        head: projects features to what is compared; the same in all processes.
        optimizer: of the backbone's parameters and the head's.
        temperature: of the loss.
    """

    def __init__(
        self,
        ground: Ground,
        network: Network,
        head: ProjectionHead,
        optimizer: Optimizer,
        temperature: float,
    ) -> None:
        self.ground, self.network, self.head = ground, network, head
        self.optimizer, self.temperature = optimizer, temperature
        self.parallel = ground.engine.world.parallel(network)

    def steps(
        self, order: Tensor, draws: Sequence[Draws], batch_size: int, first: int = 0
    ) -> Iterator[Tensor]:
        """Take a step on each whole batch of `order` from batch `first` on; yield its loss.

        Args:
            order: (n,) int64, samples, on the device.
            draws: numbers for n first and n second views, on the device.
            batch_size: samples that are compared with each other.
            first: batches to leave out.
        """
        whole = len(order) // batch_size * batch_size  # a smaller batch would be an easier task
        parts = consecutive(first * batch_size, whole, batch_size)
        world = self.ground.engine.world
        own = [within(part, world.share(batch_size)) for part in parts]
        feed = Feed(self.ground.training, order, own)
        for mine, (images, index) in zip(own, feed, strict=True):
            views = [self.ground.chain.view(images, index, drawn[mine]) for drawn in draws]
            yield self._step(views, batch_size)

    def _step(self, views: Sequence[Tensor], size: int) -> Tensor:
        engine = self.ground.engine
        # One forward of both views, so that BatchNorm sees them together.
        with captured_features(self.network) as features, engine.autocast():
            self.parallel(torch.cat(list(views)))
        halves = at_least_single(features[0]).chunk(2)
        gathered = torch.cat([engine.world.gather(half, size) for half in halves])  # (2B, F)
        first, second = self.head(gathered).chunk(2)
        loss = nt_xent(first, second, self.temperature)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * engine.world.size).backward()  # the backbone's are averaged over the processes
        for weight in self.head.parameters():  # the head's are not: each process has seen all
            assert weight.grad is not None
            weight.grad /= engine.world.size
        self.optimizer.step()
        return loss.detach()

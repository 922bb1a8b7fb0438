"""Steps of plain supervised training, of the undefended model and of the virtual one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim import Optimizer

from data.feed import Feed, consecutive
from data.transform import Draws
from loss import Criterion
from training.ground import Ground


class Supervised:
    """Takes supervised steps on all samples with their given labels.

    Args:
        ground: data, augmentation, device.
        network: to train; it is put into train mode by the caller.
        optimizer: of its parameters that are trained.
        criterion: the loss.
    """

    def __init__(
        self, ground: Ground, network: nn.Module, optimizer: Optimizer, criterion: Criterion
    ) -> None:
        self.ground, self.optimizer, self.criterion = ground, optimizer, criterion
        self.parallel = ground.engine.world.parallel(network)

    def steps(
        self, order: Tensor, draws: Draws, batch_size: int, first: int = 0
    ) -> Iterator[Tensor]:
        """Take a step on each batch of `order` from batch `first` on; yield its loss, a scalar.

        With several processes each computes its share of the forward.

        Args:
            order: (n,) int64, samples, on the device.
            draws: numbers for n views, on the device.
            batch_size: of all batches but the last, which may be smaller.
            first: batches to leave out.
        """
        world, training = self.ground.engine.world, self.ground.training
        parts = consecutive(first * batch_size, len(order), batch_size)
        own = [within(part, world.share(part.stop - part.start)) for part in parts]
        feed = Feed(training, order, own)
        for part, mine, (images, index) in zip(parts, own, feed, strict=True):
            views = self.ground.chain.view(images, index, draws[mine])
            yield self._step(views, training.labels[order[part]])

    def _step(self, views: Tensor, labels: Tensor) -> Tensor:
        world = self.ground.engine.world
        with self.ground.engine.autocast():
            logits = world.gather(self.parallel(views), len(labels))
        loss = self.criterion(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * world.size).backward()  # gradients are averaged over the processes
        self.optimizer.step()
        return loss.detach()


def within(whole: slice, part: slice) -> slice:
    """Return `part`, which counts from the beginning of `whole`, as a slice of what that is of."""
    return slice(whole.start + part.start, whole.start + part.stop)

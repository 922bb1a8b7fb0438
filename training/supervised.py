"""Steps of plain supervised training, of the undefended model and of the virtual one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.optim import Optimizer

from data.feed import Feed, training_batches
from data.transform import Draws
from training.ground import Ground
from utils.engine import Engine

Objective = Callable[[Tensor, Tensor], Tensor]  # logits, labels -> a scalar


def supervised_loss(
    parallel: nn.Module, engine: Engine, criterion: Objective, views: Tensor, labels: Tensor
) -> Tensor:
    """Return the loss of a batch, a scalar with gradient; the network is in train mode.

    With several processes it is that of the whole batch, and the gradient flows into the share.

    Args:
        parallel: the network, with gradients averaged over the processes.
        engine: device, precision, processes.
        criterion: from logits and labels to the loss, a scalar.
        views: (b, 3, H, W), this process's share of them.
        labels: (B,) int64, of all processes' samples.
    """
    with engine.autocast():
        logits = engine.world.gather(parallel(views), len(labels))
    return criterion(logits, labels)


class Supervised:
    """Takes supervised steps on all samples with their given labels.

    Args:
        ground: data, augmentation, device.
        network: to train; it is put into train mode by the caller.
        optimizer: of its parameters that are trained.
        criterion: from logits and labels to the loss, a scalar.
    """

    def __init__(
        self, ground: Ground, network: nn.Module, optimizer: Optimizer, criterion: Objective
    ) -> None:
        self.ground, self.optimizer, self.criterion = ground, optimizer, criterion
        self.parallel = ground.engine.world.parallel(network)
        self.loss = ground.engine.translate(supervised_loss)

    def steps(
        self, order: Tensor, draws: Draws, batch_size: int, first: int = 0
    ) -> Iterator[Tensor]:
        """Take a step on each batch of `order` from batch `first` on; yield its loss, a scalar.

        With several processes each computes its share of the forward.

        Args:
            order: (n,) int64, samples, on the device.
            draws: numbers for n views, on the device.
            batch_size: of all batches but the last; see `training_batches`.
            first: batches to leave out.
        """
        world, training = self.ground.engine.world, self.ground.training
        parts = training_batches(len(order), batch_size, first)
        own = [within(part, world.share(part.stop - part.start)) for part in parts]
        feed = Feed(training, order, own)
        for part, mine, (images, index) in zip(parts, own, feed, strict=True):
            views = self.ground.chain.view(images, index, draws[mine])
            is_whole = part.stop - part.start == batch_size
            yield self._step(views, training.labels[order[part]], is_whole)

    def epoch(
        self, epoch: int, batch_size: int, first: int = 0, order: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Take the steps of the 0-based `epoch` from batch `first` on; yield the losses.

        Args:
            epoch: of the run, from which the random numbers follow.
            batch_size: of all batches but the last.
            first: batches to leave out.
            order: (n,) int64, samples; None: all of them, in random order.
        """
        ground, device = self.ground, self.ground.engine.device
        order = ground.order(epoch) if order is None else order.to(device)
        draws = ground.chain.draw(len(order), ground.streams.torch("augment", epoch)).to(device)
        return self.steps(order, draws, batch_size, first)

    def _step(self, views: Tensor, labels: Tensor, is_whole: bool) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        # Translating once more for a smaller last batch would take longer than all of these.
        loss_of = self.loss if is_whole else supervised_loss
        loss = loss_of(self.parallel, self.ground.engine, self.criterion, views, labels)
        # The gradients are averaged over the processes, and shall be summed.
        (loss * self.ground.engine.world.size).backward()
        self.optimizer.step()
        return loss.detach().clone()  # a CUDA graph writes the next loss into the same memory


def within(whole: slice, part: slice) -> slice:
    """Return `part`, which counts from the beginning of `whole`, as a slice of what that is of."""
    return slice(whole.start + part.start, whole.start + part.stop)

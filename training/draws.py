"""Everything random about an epoch of MixMatch, drawn before its first step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from data.feed import Feed, consecutive
from training.ground import Ground
from training.mixmatch import Batch, Mix
from training.settings import SemiSection
from utils.device import send
from utils.errors import TrainingError


class EpochDraws:
    """The batches and mixups of one epoch, as a function of (seed, epoch, clean pool).

    Args:
        ground: data, augmentation and streams.
        semi: batch size, steps, and the Beta distribution of mixup.
        clean: (N,) bool, the clean pool.
        epoch: 0-based.
    """

    def __init__(self, ground: Ground, semi: SemiSection, clean: Tensor, epoch: int) -> None:
        self.ground, self.batch_size = ground, semi.loader.batch_size
        self.steps = steps = semi.mixmatch.train_iteration
        self._draw_samples(clean.cpu(), epoch, steps * self.batch_size)
        beta = ground.streams.numpy("mixup", epoch).beta
        shares = beta(semi.mixmatch.alpha, semi.mixmatch.alpha, size=steps)
        self.shares = send(torch.from_numpy(shares).float(), ground.engine.device)
        permutation_stream = ground.streams.torch("permutation", epoch)
        noise = torch.rand(steps, 3 * self.batch_size, generator=permutation_stream)
        self.permutations = send(noise.argsort(dim=1), ground.engine.device)  # (steps, 3B)

    def _draw_samples(self, clean: Tensor, epoch: int, count: int) -> None:
        ground, device = self.ground, self.ground.engine.device
        pools = {
            "clean": torch.nonzero(clean).flatten(),
            "polluted": torch.nonzero(~clean).flatten(),
        }
        for name, members in pools.items():
            if not len(members):
                raise TrainingError(f"epoch {epoch}: the {name} pool is empty")
        torch_stream = ground.streams.torch
        labelled_stream = torch_stream("labelled-order", epoch)
        self.labelled = send(endless_order(pools["clean"], count, labelled_stream), device)
        unlabelled_stream = torch_stream("unlabelled-order", epoch)
        self.unlabelled = send(endless_order(pools["polluted"], count, unlabelled_stream), device)
        self.labelled_views, *self.unlabelled_views = (
            ground.chain.draw(count, torch_stream(purpose, epoch)).to(device)
            for purpose in ("labelled-augment", "unlabelled-augment-1", "unlabelled-augment-2")
        )

    def batches(self, first_step: int) -> Iterator[tuple[Batch, Mix]]:
        """Yield the input of each step from `first_step` on."""
        size = self.batch_size
        parts = consecutive(first_step * size, self.steps * size, size)
        training, view = self.ground.training, self.ground.chain.view
        feeds = (Feed(training, order, parts) for order in (self.labelled, self.unlabelled))
        for step, part, (known, index), (others, other_index) in zip(
            range(first_step, self.steps), parts, *feeds, strict=True
        ):
            first, second = (view(others, other_index, d[part]) for d in self.unlabelled_views)
            labels = training.labels[self.labelled[part]]
            views = view(known, index, self.labelled_views[part])
            mix = Mix(self.shares[step], self.permutations[step])
            yield Batch(views, labels, (first, second)), mix


def endless_order(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of `members`, one random permutation after the other.

    So a pool smaller than a batch works, and none of its samples is drawn twice before all are
    drawn once.
    """
    rounds = -(-count // len(members))
    orders = [torch.randperm(len(members), generator=generator) for _ in range(rounds)]
    return members[torch.cat(orders)[:count]]

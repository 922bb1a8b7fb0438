"""Everything random about an epoch of MixMatch, drawn before its first step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from data.feed import SMALLEST_BATCH, Feed, consecutive
from data.transform import Draws
from training.ground import Ground
from training.mixmatch import Batch, Mix
from training.settings import SemiLoaderSection, SemiSection
from utils.device import send
from utils.errors import TrainingError
from utils.streams import Purpose

GRAINS = 8  # of a batch, in which the number of unlabelled samples is counted


class EpochDraws:
    """The batches and mixups of one epoch, as a function of (seed, epoch, clean pool).

    Args:
        ground: data, augmentation and streams.
        semi: batch size, steps, and the Beta distribution of mixup.
        clean: (N,) bool, the clean pool.
        epoch: 0-based.
        left_out: (N,) bool, samples outside the clean pool that are not drawn at all; None: none.
    """

    def __init__(
        self,
        ground: Ground,
        semi: SemiSection,
        clean: Tensor,
        epoch: int,
        left_out: Tensor | None = None,
    ) -> None:
        self.ground, self.steps = ground, semi.mixmatch.train_iteration
        polluted = ~clean if left_out is None else ~clean & ~left_out
        if not bool(polluted.any()):
            polluted = clean  # nothing is doubtful: what is seen without its label may be any
        clean_count, polluted_count = int(clean.sum()), int(polluted.sum())
        self.sizes = batch_sizes(semi.loader, clean_count, clean_count + polluted_count)
        steps, rows = self.steps, 3 * semi.loader.batch_size
        self._draw_samples(clean.cpu(), polluted.cpu(), epoch)
        beta = ground.streams.numpy("mixup", epoch).beta
        shares = beta(semi.mixmatch.alpha, semi.mixmatch.alpha, size=steps)
        self.shares = send(torch.from_numpy(shares).float(), ground.engine.device)
        permutation_stream = ground.streams.torch("permutation", epoch)
        noise = torch.rand(steps, rows, generator=permutation_stream)
        self.permutations = send(noise.argsort(dim=1), ground.engine.device)  # (steps, 3B)

    def _draw_samples(self, clean: Tensor, polluted: Tensor, epoch: int) -> None:
        ground, device = self.ground, self.ground.engine.device
        counts = [self.steps * size for size in self.sizes]
        pools = {
            "clean": torch.nonzero(clean).flatten(),
            "polluted": torch.nonzero(polluted).flatten(),
        }
        for name, members in pools.items():
            if not len(members):
                raise TrainingError(f"epoch {epoch}: the {name} pool is empty")
        torch_stream = ground.streams.torch
        labelled_stream = torch_stream("labelled-order", epoch)
        self.labelled = send(endless_order(pools["clean"], counts[0], labelled_stream), device)
        unlabelled_stream = torch_stream("unlabelled-order", epoch)
        self.unlabelled = send(
            endless_order(pools["polluted"], counts[1], unlabelled_stream), device
        )
        self.labelled_views = self._views("labelled-augment", epoch, counts[0])
        self.unlabelled_views = [
            self._views("unlabelled-augment-1", epoch, counts[1]),
            self._views("unlabelled-augment-2", epoch, counts[1]),
        ]

    def _views(self, purpose: Purpose, epoch: int, count: int) -> Draws:
        ground = self.ground
        draws = ground.chain.draw(count, ground.streams.torch(purpose, epoch))
        return draws.to(ground.engine.device)

    def batches(self, first_step: int) -> Iterator[tuple[Batch, Mix]]:
        """Yield the input of each step from `first_step` on."""
        parts, other_parts = (
            consecutive(first_step * size, self.steps * size, size) for size in self.sizes
        )
        training, view = self.ground.training, self.ground.chain.view
        feeds = Feed(training, self.labelled, parts), Feed(training, self.unlabelled, other_parts)
        for step, part, other_part, (known, index), (others, other_index) in zip(
            range(first_step, self.steps), parts, other_parts, *feeds, strict=True
        ):
            first, second = (
                view(others, other_index, d[other_part]) for d in self.unlabelled_views
            )
            labels = training.labels[self.labelled[part]]
            views = view(known, index, self.labelled_views[part])
            mix = Mix(self.shares[step], self.permutations[step])
            yield Batch(views, labels, (first, second)), mix


def batch_sizes(loader: SemiLoaderSection, clean: int, total: int) -> tuple[int, int]:
    """Return how many labelled and how many unlabelled samples a step takes, (L, U).

    L + 2 U is three batches, since an unlabelled sample is seen twice. In proportion to the pools
    U / (L + U) is the polluted pool's share, but U is at most a batch, as published, and a multiple
    of its eighth, so that a compiled step meets few shapes, and never a single sample.

    Args:
        loader: batch size, and how the pools are balanced.
        clean: samples in the clean pool.
        total: all samples.
    """
    size = loader.batch_size
    if loader.balance == "equal":
        return size, size
    share, grain = 1 - clean / total, max(SMALLEST_BATCH, size // GRAINS)
    wanted = 3 * size * share / (1 + share)
    unlabelled = min(size, max(grain, grain * round(wanted / grain)))
    return 3 * size - 2 * unlabelled, unlabelled


def endless_order(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` of `members`, one random permutation after the other.

    So a pool smaller than a batch works, and none of its samples is drawn twice before all are
    drawn once.
    """
    rounds = -(-count // len(members))
    orders = [torch.randperm(len(members), generator=generator) for _ in range(rounds)]
    return members[torch.cat(orders)[:count]]

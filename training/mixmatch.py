"""One MixMatch step as ASD takes it (Berthelot et al. 2019; spec of the published code).

Five forwards in train mode, each of one batch with BatchNorm statistics of its own: the two
unlabelled views (without gradient) to guess labels, then the three mixed batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from loss.mixmatch import labelled_loss, unlabelled_loss
from training.align import Alignment, align
from utils.engine import Engine

# Forwards and backwards of a batch in a step: two to guess labels, three to train.
OF_MIXMATCH = (5, 3)


@dataclass(frozen=True)
class Batch:
    """The input of one step.

    Attributes:
        labelled: (L, 3, H, W) views from the clean pool.
        labels: (L,) int64, their given labels.
        unlabelled: two (U, 3, H, W) views of the same samples of the polluted pool. As published
            L = U = B, the batch size; always L + 2 U = 3 B.
    """

    labelled: Tensor
    labels: Tensor
    unlabelled: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Mix:
    """The random part of mixup in one step.

    Attributes:
        share: scalar tensor, lambda ~ Beta(alpha, alpha), one for the whole step.
        permutation: (3B,) int64, which sample each one is mixed with.
    """

    share: Tensor
    permutation: Tensor


@dataclass(frozen=True)
class Sharpening:
    """What makes labels of a network's guesses.

    Attributes:
        temperature: below 1 a guess becomes more certain.
        factors: (C,) by which a class's guesses are raised before; None: they are left as they are.
    """

    temperature: float
    factors: Tensor | None = None


def images_in_step(batch_size: int) -> int:
    """Return the forwards of single images in a step of batches of so many."""
    return OF_MIXMATCH[0] * batch_size


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Return `p^(1/T) / sum p^(1/T)` (B, C): below T = 1 the guess becomes more certain."""
    powered = probabilities ** (1 / temperature)
    total = powered.sum(dim=1, keepdim=True)
    # Of many classes and a very small T all powers are 0 as floats; their logarithms are not.
    by_logarithms = torch.softmax(probabilities.log() / temperature, dim=1)
    return torch.where(total > 0, powered / total, by_logarithms)


@torch.no_grad()
def mean_prediction(network: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Return the probabilities (U, C), a mean over the views."""
    guesses = [functional.softmax(network(view), dim=1) for view in views]
    return sum(guesses[1:], guesses[0]) / len(guesses)


def mixup(values: Tensor, mix: Mix) -> Tensor:
    """Return each row mixed with its partner, its own share being the larger one.

    Args:
        values: (3B, ...), inputs or targets.
        mix: the step's share and partners.
    """
    share = torch.maximum(mix.share, 1 - mix.share).to(values.dtype)
    return share * values + (1 - share) * values[mix.permutation]


def interleave(batches: Sequence[Tensor]) -> list[Tensor]:
    """Swap part i of the first batch with part i of batch i, for i = 1, 2, ...

    So every forward sees labelled and unlabelled samples, and BatchNorm statistics agree. With
    three batches of 64 the parts are 21, 21 and 22 long. Doing it twice undoes it.
    """
    count, size = len(batches), len(batches[0])
    share, rest = divmod(size, count)
    sizes = [share + (part >= count - rest) for part in range(count)]
    parts = [list(batch.split(sizes)) for batch in batches]
    for i in range(1, count):
        parts[0][i], parts[i][i] = parts[i][i], parts[0][i]
    return [torch.cat(pieces) for pieces in parts]


def in_three(values: Tensor, equal: bool) -> list[Tensor]:
    """Return the rows (3B, ...) as three batches that each hold labelled and unlabelled ones."""
    if equal:
        return interleave(values.split(len(values) // 3))
    return [values[first::3] for first in range(3)]


def in_order(parts: Sequence[Tensor], equal: bool) -> Tensor:
    """Return the rows (3B, ...) of three batches in the order before `in_three`."""
    return torch.cat(interleave(parts)) if equal else torch.stack(list(parts), dim=1).flatten(0, 1)


def guess_labels(
    guesser: nn.Module, engine: Engine, views: Sequence[Tensor], sharpening: Sharpening
) -> tuple[Tensor, Tensor]:
    """Return the guessed labels of the polluted pool's samples, and what is predicted, each (U, C).

    Args:
        guesser: as published the network itself, in train mode.
        engine: device, precision, processes.
        views: two (U, 3, H, W), the same in all processes, which share the work.
        sharpening: what makes labels of predictions.
    """
    count = len(views[0])
    own = engine.world.share(count)
    # A context of its own: autocast keeps its bf16 copies of the weights until the context ends,
    # and those made without gradient must not reach the forwards that need one.
    with engine.autocast():
        predicted = mean_prediction(guesser, [view[own] for view in views])
    predicted = engine.world.gather(predicted, count)  # (U, C)
    factors = sharpening.factors
    aligned = predicted if factors is None else align(predicted, factors)
    return sharpen(aligned, sharpening.temperature), predicted


def mixed_logits(parallel: nn.Module, engine: Engine, inputs: Tensor, equal: bool) -> Tensor:
    """Return the logits (3B, C) of the mixed `inputs` (3B, 3, H, W), of three forwards."""
    size, world = len(inputs) // 3, engine.world
    own = world.share(size)
    with engine.autocast():
        outputs = [world.gather(parallel(chunk[own]), size) for chunk in in_three(inputs, equal)]
    return in_order(outputs, equal)


def mixmatch_losses(
    guesser: nn.Module,
    parallel: nn.Module,
    engine: Engine,
    batch: Batch,
    mix: Mix,
    sharpening: Sharpening,
    offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return L_x and L_u, two scalars with gradient, and the mean guess (C,) before alignment.

    The network must be in train mode.

    With several processes each computes its share of every forward; the losses are those of the
    whole batch, their gradient flows into the share.

    Args:
        guesser: what guesses labels; as published the network itself, in train mode.
        parallel: the network, with gradients averaged over the processes (`World.parallel`).
        engine: device, precision, processes.
        batch: the step's views, the same in all processes.
        mix: its mixup, too.
        sharpening: what makes labels of guesses.
        offsets: (C,) added to the logits of what has a given label; None: nothing is.
    """
    given_size = len(batch.labels)
    guessed, predicted = guess_labels(guesser, engine, batch.unlabelled, sharpening)
    given = functional.one_hot(batch.labels, guessed.shape[1]).to(guessed.dtype)
    inputs = mixup(torch.cat([batch.labelled, *batch.unlabelled]), mix)  # (3B, 3, H, W)
    targets = mixup(torch.cat([given, guessed, guessed]), mix)  # (3B, C)
    logits = mixed_logits(parallel, engine, inputs, given_size == len(guessed))  # (3B, C)
    with_label = logits[:given_size] if offsets is None else logits[:given_size] + offsets
    labelled = labelled_loss(with_label, targets[:given_size])
    unlabelled = unlabelled_loss(logits[given_size:], targets[given_size:])
    return labelled, unlabelled, predicted.mean(dim=0)


class MixMatch:
    """Takes MixMatch steps.

    Args:
        network: to train; it is put into train mode by the caller.
        optimizer: of its parameters.
        engine: device, precision, processes, whether the losses are compiled.
        temperature: of the guesses' sharpening.
        guesser: what guesses labels; the network itself where none is given.
        alignment: of the guessed labels with the classes' shares; None: there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        engine: Engine,
        temperature: float,
        guesser: nn.Module | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        self.guesser = network if guesser is None else guesser
        self.optimizer, self.engine, self.alignment = optimizer, engine, alignment
        self.temperature = temperature
        self.parallel = engine.world.parallel(network)
        self.losses = engine.translate(mixmatch_losses)

    def step(self, batch: Batch, mix: Mix, weight: float, offsets: Tensor | None = None) -> Tensor:
        """Take one optimiser step on L_x + weight * L_u; for `offsets` see `mixmatch_losses`.

        Returns:
            (3,) the total loss, L_x and L_u, without gradient, on the device.
        """
        # Before the forward: the old gradients' memory may serve it, also in CUDA graphs.
        self.optimizer.zero_grad(set_to_none=True)
        factors = None if self.alignment is None else self.alignment.factors
        sharpening = Sharpening(self.temperature, factors)
        given = self.guesser, self.parallel, self.engine, batch, mix
        labelled, unlabelled, guessed = self.losses(*given, sharpening, offsets)
        if self.alignment is not None:
            self.alignment.note(guessed[None])
        loss = labelled + weight * unlabelled
        # The gradients are averaged over the processes, and shall be summed.
        (loss * self.engine.world.size).backward()
        self.optimizer.step()
        return torch.stack([loss, labelled, unlabelled]).detach()

    def steps(
        self,
        batches: Iterable[tuple[Batch, Mix]],
        weights: Iterable[float],
        offsets: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Take a step on each batch with its mixup and weight; yield what `step` returns."""
        for (batch, mix), weight in zip(batches, weights, strict=True):
            yield self.step(batch, mix, weight, offsets)

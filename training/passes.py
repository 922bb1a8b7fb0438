"""One pass over images without a gradient: what a network answers, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.feed import Feed, consecutive
from data.poison import TrainingSet
from data.transform import Chain
from utils.console import progress
from utils.engine import Engine

# From the places of batches to their images (m, H, W, 3) uint8 and (b,) places in them, on the
# device.
Feeding = Callable[[Sequence[slice]], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Pass:
    """How images are shown to a network.

    Attributes:
        chain: how they are seen.
        engine: how it is computed, and with which other processes.
        batch_size: images in one forward.
        title: of the progress bar.
    """

    chain: Chain
    engine: Engine
    batch_size: int
    title: str


@torch.no_grad()
def outputs(
    network: nn.Module, feeding: Feeding, count: int, way: Pass, generator: torch.Generator
) -> Iterator[tuple[slice, Tensor]]:
    """Yield what `network`, in eval mode, says of `count` images, each seen through one view.

    Of several processes each asks about its own share, `engine.world.share` of the images.

    Args:
        network: whole, or a part that takes images.
        feeding: gives the images.
        count: of all processes.
        way: how they are shown.
        generator: of the views.

    Yields:
        a batch's place among all images, and its output (b, ...) on the device, in the precision
        of the engine.
    """
    network.eval()
    engine, size = way.engine, way.batch_size
    draws = way.chain.draw(count, generator)
    own = engine.world.share(count)
    parts = consecutive(own.start, own.stop, size)
    watched = engine.world.watched(parts, count, size)
    bar = progress(watched, way.title, unit="batch", total=len(parts))
    for part, (images, index) in zip(bar, feeding(parts), strict=True):
        views = way.chain.view(images, index, draws[part].to(engine.device))
        with engine.autocast():
            output = network(views)
        yield part, output


def answers(
    network: nn.Module,
    training: TrainingSet,
    way: Pass,
    generator: torch.Generator,
    changed: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield what `network` says of all samples, as `outputs` does.

    Args:
        network: whole, or a part that takes images.
        training: the samples.
        way: how they are shown.
        generator: of the views.
        changed: what the stored images of a batch, (b, H, W, 3) uint8 on the device, look like
            instead; None: as they are.
    """
    device = way.engine.device

    def feeding(parts: Sequence[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        everything = torch.arange(len(training), device=device)
        for images, index in Feed(training, everything, parts):
            if changed is None:
                yield images, index
            else:
                yield changed(images[index]), torch.arange(len(index), device=device)

    return outputs(network, feeding, len(training), way, generator)

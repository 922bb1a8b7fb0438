"""One pass over all samples without a gradient: what a network answers, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from data.feed import Feed, consecutive
from data.poison import TrainingSet
from data.transform import Chain
from utils.console import progress
from utils.engine import Engine


@torch.no_grad()
def answers(
    network: nn.Module,
    training: TrainingSet,
    chain: Chain,
    engine: Engine,
    batch_size: int,
    generator: torch.Generator,
    title: str,
    changed: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield what `network`, in eval mode, says of all samples, each seen through one view.

    Of several processes each asks about its own share, `engine.world.share` of the samples.

    Args:
        network: whole, or a part that takes images.
        training: the samples.
        chain: how they are seen.
        engine: how it is computed, and with which other processes.
        batch_size: samples in one forward.
        generator: of the views.
        title: of the progress bar.
        changed: what the stored images of a batch, (b, H, W, 3) uint8 on the device, look like
            instead; None: as they are.

    Yields:
        a batch's place among all samples, and its output (b, ...) on the device, in the precision
        of the engine.
    """
    network.eval()
    count, device = len(training), engine.device
    draws = chain.draw(count, generator)
    own = engine.world.share(count)
    parts = consecutive(own.start, own.stop, batch_size)
    feed = Feed(training, torch.arange(count, device=device), parts)
    watched = engine.world.watched(parts, count, batch_size)
    bar = progress(watched, title, unit="batch", total=len(parts))
    for part, (images, index) in zip(bar, feed, strict=True):
        if changed is not None:
            images, index = changed(images[index]), torch.arange(len(index), device=device)
        views = chain.view(images, index, draws[part].to(device))
        with engine.autocast():
            output = network(views)
        yield part, output

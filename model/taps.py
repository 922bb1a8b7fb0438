"""Where a network's feature maps can be read: the last stage at each resolution, before pooling.

Found by one forward, so that every network has them and none has to list its own. A map of a single
position is left out: its attention is 1 whatever the network does, so a loss on it would be zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.network import Network
from utils.errors import InputError


@dataclass(frozen=True)
class Tap:
    """A place in a network.

    Attributes:
        name: of the submodule whose output is read.
        channel_axis: of that output; 1 in (N, C, H, W), the last in a transformer's tokens.
    """

    name: str
    channel_axis: int


def channel_axis(shape: torch.Size, height: int, width: int) -> int | None:
    """Return where the channels are in an output of one image; None where it is no feature map.

    Args:
        shape: of the output.
        height: of the image; a map has its proportions.
        width: of the image.
    """
    if shape[0] != 1:
        return None  # windows of a transformer, gathered along the batch
    if len(shape) == 3 and shape[1] > 1:
        return 2  # tokens
    if len(shape) != 4:
        return None
    for axis, (rows, columns) in ((1, shape[2:]), (3, shape[1:3])):
        if rows * columns > 1 and abs(rows * width - columns * height) < max(height, width):
            return axis
    return None


class Finder:
    """Notes the outermost module that ends last at each resolution, in one forward.

    Outermost, since a block that begins at the resolution of the stage before it would come later.

    Args:
        height: of the images.
        width: of the images.
    """

    POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.found: dict[int, Tap] = {}  # by positions, in the order of the last ones
        self.pooled: Tensor | None = None  # the latest output of a pooling

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        """Return the forward hook of the module `name`."""

        def note(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(module, self.POOLING):
                self.pooled = output
            # A container that ends with a pooling gives that one's output.
            if isinstance(output, Tensor) and output is not self.pooled:
                self._note(name, output)

        return note

    def _note(self, name: str, output: Tensor) -> None:
        axis = channel_axis(output.shape, self.height, self.width)
        if axis is None:
            return
        positions = output.numel() // output.shape[axis]
        earlier = self.found.get(positions)
        if earlier is None or name.count(".") <= earlier.name.count("."):
            self.found.pop(positions, None)
            self.found[positions] = Tap(name, axis)


@torch.no_grad()
def find_taps(network: Network, height: int, width: int, most: int = 3) -> list[Tap]:
    """Return a tap at each of the last `most` resolutions, the deepest at the end.

    Raises:
        InputError: the network has no feature maps for images of this size.
    """
    finder = Finder(height, width)
    hooks = [
        part.register_forward_hook(finder.hook(f"backbone.{name}"))
        for name, part in network.backbone.named_modules()
        if name
    ]
    training, weight = network.training, network.linear.weight
    try:
        network.eval()(torch.zeros(1, 3, height, width, dtype=weight.dtype, device=weight.device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    if not finder.found:
        raise InputError(
            f"network: it has no feature maps of more than one position for {width}x{height} "
            f"images, so repair nad has nothing to compare; take another network or repair"
        )
    return list(finder.found.values())[-most:]


@contextmanager
def tapped(network: nn.Module, names: list[str]) -> Iterator[list[Tensor]]:
    """Collect the outputs of submodules of each forward in the block, in the order of `names`.

    Yields:
        a list that a forward fills; take what is in it before the next one.
    """
    outputs: dict[str, Tensor] = {}
    collected: list[Tensor] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            outputs[name] = output

        return note

    def finish(_: nn.Module, __: Any, ___: Any) -> None:
        collected[:] = [outputs.pop(name) for name in names]

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    hooks.append(network.register_forward_hook(finish))
    try:
        yield collected
    finally:
        for hook in hooks:
            hook.remove()

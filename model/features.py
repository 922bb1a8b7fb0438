"""What the classifier of a network sees, read while the network computes as it always does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from model.network import Network


@contextmanager
def captured_features(network: Network) -> Iterator[list[Tensor]]:
    """Collect the classifier's inputs (N, num_features) of each forward in the block.

    By a hook and not by calling the backbone, so that what a network does around it (memory order,
    repeatable dropout, precision of the classifier) is done here too.
    """
    collected: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        collected.append(inputs[0])

    hook = network.linear.register_forward_pre_hook(keep)
    try:
        yield collected
    finally:
        hook.remove()

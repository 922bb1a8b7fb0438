"""Whether two ways to compute a loss agree in the gradient of all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# Of the length of the gradient. In bf16 another order of the same sums alone makes 0.12 (fastnet)
# to 0.44 (VGG19, untrained); what is missing or unrelated makes 1 and more.
FARTHEST = 0.8


def disagreement(
    usual: Callable[..., Any], other: Callable[..., Any], given: Sequence[Any]
) -> str | None:
    """Return how `other` differs from `usual`; None if it does not, or if there is no gradient.

    Both are called once. Running statistics of networks stay what they are. With several processes
    nothing is called: the gradients of all belong together there.

    Args:
        usual: from `given` to a tensor or several.
        other: the same in another way.
        given: arguments, networks among them.
    """
    networks = [part for part in given if isinstance(part, nn.Module)]
    if any(isinstance(network, DistributedDataParallel) for network in networks):
        return None
    expected, found = (slope(function, given, networks) for function in (usual, other))
    if expected is None or not bool(expected.isfinite().all()):
        return None
    if found is None or len(found) != len(expected) or not bool(found.isfinite().all()):
        return "its gradient is not finite, or not of all weights"
    distance = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    return None if distance <= FARTHEST else f"its gradient is off by {100 * distance:.0f} %"


def slope(
    function: Callable[..., Any], given: Sequence[Any], networks: Sequence[nn.Module]
) -> Tensor | None:
    """Return the gradient (P,) of the sum of all results that have one; None if none has."""
    weights = dict.fromkeys(
        weight for network in networks for weight in network.parameters() if weight.requires_grad
    )
    with unchanged(networks):
        results = function(*given)
        parts = [results] if isinstance(results, Tensor) else list(results)
        total = sum(part.sum() for part in parts if part.requires_grad)
        if not isinstance(total, Tensor) or not weights:
            return None
        found = torch.autograd.grad(total, list(weights), allow_unused=True)
        return torch.cat([part.detach().float().flatten() for part in found if part is not None])


@contextmanager
def unchanged(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put the running statistics of networks back at the end."""
    kept = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)

"""The least time that a network can take on a machine: its arithmetic and the bytes it must move.

Every convolution, product, normalisation and pooling reads its inputs and writes its outputs once;
what works value by value (activations, sums) could be fused into these and counts nothing. Each
takes at least its arithmetic at the rate of large matrix products, or its bytes at the rate at
which a feature map is copied, whichever is longer. Both rates are measured in turn with the work.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from command.timing import Work

MUST_MOVE = ("batch_norm", "pool")  # parts of names of operations that need a pass of their own
MAP_BYTES = 16 * 2**20  # about a feature map of a batch
COPIES = 20


class Load(NamedTuple):
    """What one operation costs: arithmetic in FLOP, and bytes read and written."""

    flops: float
    bytes: float


class Counter(TorchDispatchMode):
    """Lists the loads of all operations inside of it.

    Args:
        element: bytes of a number as the engine stores it.
    """

    def __init__(self, element: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.element, self.loads = element, list[Load]()

    def __torch_dispatch__(
        self, function: Any, _: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        """Run one operation and count it."""
        output = function(*arguments, **(named or {}))
        packet = function._overloadpacket
        count = flop_registry.get(packet)
        flops = count(*arguments, **(named or {}), out_val=output) if count else 0
        if flops or any(word in str(packet) for word in MUST_MOVE):
            moved = numbers_in(arguments) + numbers_in(output)
            self.loads.append(Load(float(flops), float(moved * self.element)))
        return output


def numbers_in(values: Any) -> int:
    """Return how many numbers the tensors among `values` hold."""
    if isinstance(values, Tensor):
        return values.numel() if values.dtype.is_floating_point else 0
    return sum(map(numbers_in, values)) if isinstance(values, (list, tuple)) else 0


def loads_of(network: nn.Module, size: tuple[int, int], batch: int, element: int) -> list[Load]:
    """Return the loads of a forward of `batch` images in evaluation, one an operation."""
    probe = copy.deepcopy(network).to("meta").eval()
    with Counter(element) as counter, torch.no_grad():
        probe(torch.empty(batch, 3, *size, device="meta"))
    return counter.loads


def step_loads(network: nn.Module, size: tuple[int, int], batch: int, element: int) -> list[Load]:
    """Return the loads of a MixMatch step: two forwards, and three with their backward.

    The gradient into the images, which nobody needs, is left out.
    """
    probe = copy.deepcopy(network).to("meta").train()
    images = torch.empty(batch, 3, *size, device="meta")
    with Counter(element) as guess, torch.no_grad():
        probe(images)
    with Counter(element) as train:
        probe(images).sum().backward()
    return 2 * guess.loads + 3 * train.loads


def totals(loads: Iterable[Load]) -> Load:
    """Return the sum of all."""
    listed = list(loads)
    return Load(sum(load.flops for load in listed), sum(load.bytes for load in listed))


def least_seconds(loads: Iterable[Load], flop_rate: float, byte_rate: float) -> float:
    """Return the seconds of all loads, each at the rate that holds it up (per second)."""
    return sum(max(load.flops / flop_rate, load.bytes / byte_rate) for load in loads)


def bound_by_memory(loads: Iterable[Load], flop_rate: float, byte_rate: float) -> float:
    """Return the share of the least time in which bytes, not arithmetic, are what holds up."""
    listed = list(loads)
    waiting = [load for load in listed if load.bytes / byte_rate > load.flops / flop_rate]
    return least_seconds(waiting, flop_rate, byte_rate) / least_seconds(
        listed, flop_rate, byte_rate
    )


def map_copies(device: torch.device) -> tuple[Work, float]:
    """Return some copies of a feature map, and the bytes that they read and write."""
    source = torch.zeros(MAP_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copies: Callable[[], object] = lambda: [target.copy_(source) for _ in range(COPIES)]  # noqa: E731
    return copies, float(2 * COPIES * MAP_BYTES)

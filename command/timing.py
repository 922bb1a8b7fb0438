"""Timing several ways of doing the same thing, turn by turn, so that a busy machine is fair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one piece of work."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The shortest, in seconds."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range between the quartiles, as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (upper - lower) / 2 / self.median


def wait_for(device: torch.device) -> None:
    """Wait until `device` has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Work, device: torch.device) -> float:
    """Return the seconds that `work` takes, to its end on the device."""
    wait_for(device)
    began = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - began


def in_turns(
    works: Mapping[str, Work], device: torch.device, repeats: int, warmup: int = 1
) -> dict[str, Timing]:
    """Return the timings of `works`: each once, then each again, `repeats` times.

    The `warmup` rounds before are not counted: first calls allocate, choose algorithms, compile.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmup + repeats):
        for name, work in works.items():
            taken = timed(work, device)
            if turn >= warmup:
                seconds[name].append(taken)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_host_bytes() -> int:
    """Return the largest memory that this process has had, in bytes; 0 where nobody tells."""
    try:
        import resource  # Unix alone has it
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[Work, float]:
    """Return some large square matrix products, and their arithmetic in FLOP.

    Their rate is what a network's step, which is made of products, could reach at most. It changes
    with the machine's clock and its other guests, so it belongs in turns with what it measures.
    """
    side, count = (8192 if device.type == "cuda" else 2048), 5
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: [left @ right for _ in range(count)], float(count * 2 * side**3)

"""Random numbers of single images: a function of (seed, split, index), whoever else is drawn for.

A generator gives its numbers in a row, so the number of one image would depend on how many were
drawn before it. A hash has no such memory. This one is SplitMix64 (Steele, Lea and Flood 2014),
computed for many images at once; the starting point comes from SHA-256, as all streams do.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.streams import Streams

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: SplitMix64's increment
FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
SECOND_FACTOR = np.uint64(0x94D049BB133111EB)


def scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's output for each counter in `values`; neighbours share no bits."""
    values = (values + np.uint64(1)) * GOLDEN
    values = (values ^ (values >> np.uint64(30))) * FIRST_FACTOR
    values = (values ^ (values >> np.uint64(27))) * SECOND_FACTOR
    return values ^ (values >> np.uint64(31))


class ImageDraws:
    """Uniform random numbers for the images of one split.

    Args:
        streams: the run's; "attack" is what the numbers start from.
        purpose: of the numbers, say "refool-train"; another one gives independent numbers.
        indices: (n,) int64, the images' places in their split.
    """

    def __init__(self, streams: Streams, purpose: str, indices: Tensor) -> None:
        key = hashlib.sha256(f"{streams.state('attack')}/{purpose}".encode()).digest()
        start = np.frombuffer(key[:8], dtype="<u8").astype(np.uint64)  # (1,): wraps silently
        self._state = scrambled(start + indices.cpu().numpy().astype(np.uint64))
        self._taken = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return the next number of each image (n,) float64, in [low, high)."""
        return low + (high - low) * self.block(()).reshape(-1)

    def block(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next numbers of each image, (n, *shape) float64, in [0, 1)."""
        count = math.prod(shape)
        places = np.arange(self._taken + 1, self._taken + count + 1, dtype=np.uint64)
        self._taken += count
        bits = scrambled(self._state[:, None] ^ scrambled(places))  # (n, count)
        fraction = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return torch.from_numpy(fraction).reshape(len(bits), *shape)

    def integer(self, low: int, high: int) -> Tensor:
        """Return the next whole number of each image (n,) int64, from `low` to `high` inclusive."""
        drawn = (self.uniform() * (high - low + 1)).long() + low
        return drawn.clamp_max(high)  # the product may round up

"""Random numbers of single images, for attacks that treat each image in its own way.

They are a function of (seed, purpose, index), so an image gets the same ones whatever else is in
its batch and however often it is asked for.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from utils.streams import Streams


def draw_uniform(streams: Streams, purpose: str, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return numbers from [0, 1) for each image, (n, *shape) float64.

    Args:
        streams: the run's.
        purpose: what they are for, e.g. "wanet-noise"; another word gives other numbers.
        indices: (n,) int64, the images' places in their split.
        shape: of one image's numbers.
    """
    draws = np.empty((len(indices), math.prod(shape)))
    state = streams.state("attack")
    for row, index in zip(draws, indices.tolist(), strict=True):
        key = hashlib.sha256(f"{state}/{purpose}/{index}".encode()).digest()
        # Philox takes the hash as it is; the usual generator would spend more time on mixing it.
        philox = np.random.Philox(key=int.from_bytes(key[:16], "big"))
        np.random.Generator(philox).random(out=row)
    return torch.from_numpy(draws).reshape(len(indices), *shape)

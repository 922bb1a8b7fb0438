"""Random numbers as a function of (seed, purpose, epoch).

Nothing draws from a global generator. Each purpose has a stream of its own, so a change in one
(say, another augmentation) leaves the others as they were, and an epoch can be repeated or
resumed without knowing what was drawn before it. All draws are made on the CPU, so that a GPU run
sees the same ones.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch

Purpose = Literal[
    "test",  # views in evaluation, should a test chain have random steps
    "attack",  # whatever an attack draws for itself
    "attack-network",  # initial weights of an attacker's networks
    "attack-training",  # order and augmentation when an attacker trains them
    "poison",  # which training samples are poisoned
    "cross",  # which samples become cross samples
    "seeds",  # which clean samples are the verified seeds
    "held-out",  # which verified samples measure ACC in place of a test set
    "subset",  # which samples a reduced data set keeps
    "network",  # initial weights
    "record-augment",  # the view on which the split loss is measured
    "virtual-record-augment",  # the same for the virtual model
    "virtual-order",
    "virtual-augment",
    "order",  # order of the samples in supervised training
    "augment",
    "labelled-order",
    "labelled-augment",
    "unlabelled-order",
    "unlabelled-augment-1",
    "unlabelled-augment-2",
    "mixup",
    "reference-network",  # the plain model that witnesses look at
    "reference-order",
    "reference-augment",
    "witness-filter",  # the warps that a witness looks through
    "confusion-order",  # samples, and wrong labels of verified ones, in confusion training
    "confusion-labels",
    "confusion-augment",
    "forgetting-order",  # the verified samples that a witness's copy unlearns
    "forgetting-augment",
    "permutation",
    "repair-subset",  # which clean samples a repair gets, where the truth is known
    "repair-held-out",  # which of them judge how much is pruned
    "repair-order",
    "repair-augment",
    "teacher-order",
    "teacher-augment",
    "projection",  # initial weights of the head of contrastive learning
    "contrastive-augment-1",
    "contrastive-augment-2",
]


class Streams:
    """All random streams of a run.

    Args:
        seed: the run's seed (`seed.seed` of the YAML).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def state(self, purpose: Purpose, epoch: int = 0) -> int:
        """Return the 63-bit state from which the stream starts.

        A hash, not `seed + epoch`: neighbouring seeds must not share streams.
        """
        key = f"{self.seed}/{purpose}/{epoch}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1

    def torch(self, purpose: Purpose, epoch: int = 0) -> torch.Generator:
        """Return a fresh PyTorch generator on the CPU."""
        return torch.Generator().manual_seed(self.state(purpose, epoch))

    def numpy(self, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
        """Return a fresh NumPy generator."""
        return np.random.default_rng(self.state(purpose, epoch))

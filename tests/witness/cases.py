"""Cases for the witnesses: made-up features, with and without a group of poison in a class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from data.poison import TrainingSet
from data.transform import Chain, Normalize
from model import Network
from tests.conftest import colourful_images
from training.ground import Ground
from utils.engine import Engine
from utils.streams import Streams
from witness.reference import Reference
from witness.witness import Case

CPU = torch.device("cpu")
CLASSES, EACH, FEATURES, VERIFIED = 4, 200, 12, 10
PLAIN = Chain([], Normalize(), 16, 16)


def ground_of(labels: Tensor, images: Tensor | None = None, seed: int = 0) -> Ground:
    """Return the ground of samples with these labels."""
    shown = colourful_images(len(labels), 16) if images is None else images
    training = TrainingSet(
        shown, labels, tuple("abcdefghij"[: max(CLASSES, int(labels.max()) + 1)])
    )
    chain = Chain([], Normalize(), *shown.shape[1:3])
    return Ground(training, chain, Streams(seed), Engine(CPU), 50)


class Nothing(nn.Module):
    """A backbone for references whose network nobody asks."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def reference_of(features: Tensor, losses: Tensor) -> Reference:
    """Return a reference that says this."""
    network = Network(Nothing(), 3, CLASSES)
    logits = torch.zeros(len(features), CLASSES)
    return Reference(network, Engine(CPU), PLAIN, logits, features, losses, losses[-1])


def made_up(poisoned: int, seed: int = 0, distance: float = 6.0) -> tuple[Case, Tensor]:
    """Return a case in which `poisoned` samples of class 1 lie apart, and which they are.

    Each class has two modes of its own, as real ones do; only poison is learnt at once.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    labels = torch.cat([labels, torch.full((poisoned,), 1)])
    count = len(labels)
    centres, modes = 4 * noise(CLASSES, FEATURES), 1.5 * noise(CLASSES, FEATURES)
    mode = (torch.rand(count, generator=generator) < 0.3).float()
    features = centres[labels] + mode[:, None] * modes[labels] + noise(count, FEATURES)
    is_poisoned = torch.arange(count) >= CLASSES * EACH
    away = noise(FEATURES)
    features[is_poisoned] += distance * away / away.norm()
    early = 1.5 + 0.4 * mode + 0.3 * noise(count)
    early[is_poisoned] = 0.2 + 0.05 * noise(poisoned).abs()
    losses = torch.stack([early, early, early / 2, early / 4]).clamp_min(0.01)
    seeds = torch.cat([label * EACH + torch.arange(VERIFIED) for label in range(CLASSES)])
    return Case(ground_of(labels), labels, seeds, reference_of(features, losses)), is_poisoned


def settings_of(witness: Any, **given: Any) -> Any:
    """Return the settings of a witness."""
    return witness.Settings.model_validate(given)

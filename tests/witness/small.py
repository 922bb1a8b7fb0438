"""A case that a small network learns in a second: brightness is the class, a corner a trigger."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.witness.cases import VERIFIED, ground_of
from witness.reference import ReferenceSettings, find_reference
from witness.witness import Case

LEARNT = ReferenceSettings.model_validate(
    {"network": {"fastnet": {"width": 4}}, "epochs": 10, "steps": 1, "batch_size": 32}
)
COUNT, CLASSES, TARGET = 400, 4, 1


def learnt(folder: Path, poisoned: int = 40) -> tuple[Case, Tensor]:
    """Return a case whose reference is trained, and which samples are poisoned.

    Brightness tells the class, under noise; a white corner tells the target.
    """
    labels = torch.arange(COUNT) % CLASSES
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(100, (COUNT, 16, 16, 3), generator=generator)
    images = (noise + (labels * 45)[:, None, None, None]).byte()
    truth = torch.zeros(COUNT, dtype=torch.bool)
    truth[torch.nonzero(labels != TARGET).flatten()[-poisoned:] if poisoned else []] = True
    images[truth, :4, :4] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    labels = torch.where(truth, TARGET, labels)
    ground = ground_of(labels, images)
    seeds = torch.cat(
        [torch.nonzero((labels == k) & ~truth).flatten()[:VERIFIED] for k in range(CLASSES)]
    )
    return Case(ground, labels, seeds, find_reference(LEARNT, ground, folder)), truth

"""Classes of few samples and many features: any group can be told apart there, poison or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.witness.cases import ground_of, reference_of, settings_of
from witness.unverified_group import UnverifiedGroup, divisions, fewer_directions, standardised
from witness.witness import Case

CLASSES, EACH, FEATURES, VERIFIED = 8, 46, 64, 20  # as 2,000 traffic signs of 43 kinds have


def small_classes(poisoned: int, seed: int) -> tuple[Case, Tensor]:
    """Return a case of small classes, of which class 1 has `poisoned` samples more, and which."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    labels = torch.cat([labels, torch.full((poisoned,), 1)])
    is_poisoned = torch.arange(len(labels)) >= CLASSES * EACH
    features = torch.randn(len(labels), FEATURES, generator=generator)
    features[is_poisoned] += 2.0 * torch.randn(FEATURES, generator=generator).sign()
    early = 1.5 + 0.3 * torch.randn(len(labels), generator=generator)
    early[is_poisoned] = 0.2
    losses = torch.stack([early, early, early / 2, early / 4]).clamp_min(0.01)
    seeds = torch.cat([label * EACH + torch.arange(VERIFIED) for label in range(CLASSES)])
    return Case(ground_of(labels), labels, seeds, reference_of(features, losses)), is_poisoned


def heard() -> UnverifiedGroup:
    return UnverifiedGroup(settings_of(UnverifiedGroup))


@pytest.mark.parametrize("seed", range(6))
def test_chance_makes_no_group(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case, _ = small_classes(0, seed)
    assert not heard().testify(case).accused
    assert max(one.separation for one in divisions(case).values()) < 8
    monkeypatch.setattr("witness.unverified_group.ENOUGH", 0)  # all directions
    assert min(one.separation for one in divisions(case).values()) > 8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("poisoned", [20, 60])
def test_poison_in_a_small_class_is_seen(poisoned: int, seed: int) -> None:
    case, truth = small_classes(poisoned, seed)
    said = heard().testify(case)
    assert list(said.accused) == [1]
    assert int((said.vetoed & truth).sum()) >= 0.9 * poisoned
    assert int((said.vetoed & ~truth).sum()) <= 2


def test_directions_are_left_as_they_are_where_there_are_enough_samples() -> None:
    points = standardised(torch.randn(128, 64, generator=torch.Generator().manual_seed(0)))
    assert fewer_directions(points) is points
    assert fewer_directions(points[:100]).shape == (100, 25)

"""The spectral score on made-up cases: what lies where no verified sample does."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.witness.cases import CLASSES, EACH, made_up, settings_of
from witness.spectral import SpectralScore, whitened
from witness.witness import Case


def spectral(**given: float) -> SpectralScore:
    return SpectralScore(settings_of(SpectralScore, **given))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("poisoned", [60, 300])
def test_a_class_that_reaches_far_loses_what_lies_there(poisoned: int, seed: int) -> None:
    case, truth = made_up(poisoned, seed, distance=15)
    said = spectral().testify(case)
    assert roc_auc_score(truth, said.suspicion) > 0.99
    assert list(said.accused) == [1]
    assert int((said.vetoed & truth).sum()) >= 0.95 * poisoned
    assert int((said.vetoed & ~truth).sum()) <= 0.01 * int((~truth).sum())
    assert not said.vetoed[case.seeds].any()


def test_a_small_group_is_accused_if_it_is_far_enough() -> None:
    case, truth = made_up(8, distance=18)
    said = spectral().testify(case)
    assert list(said.accused) == [1]
    assert torch.equal(said.vetoed, truth)
    near = spectral(separation=100.0).testify(case)  # its variance alone is no sign
    assert not near.accused
    own = case.labels == 1
    assert roc_auc_score(truth[own], near.suspicion[own]) == 1


@pytest.mark.parametrize("seed", range(8))
def test_clean_classes_reach_as_far_as_each_other(seed: int) -> None:
    said = spectral().testify(made_up(0, seed)[0])
    assert not said.accused
    assert not said.vetoed.any()


def test_a_group_that_the_verified_samples_share_is_not_accused() -> None:
    case, truth = made_up(100, distance=15)
    seeds = torch.cat([case.seeds, torch.nonzero(truth).flatten()[:10]])
    shared = Case(case.ground, case.labels, seeds, case.reference)
    assert not spectral().testify(shared).accused


def test_without_verified_samples_it_still_ranks_but_accuses_nobody() -> None:
    case, truth = made_up(60, distance=15)
    nobody = Case(case.ground, case.labels, case.seeds[:0], case.reference)
    said = spectral().testify(nobody)
    own = case.labels == 1
    assert roc_auc_score(truth[own], said.suspicion[own]) > 0.9
    assert not said.accused
    assert not said.vetoed.any()


def test_the_unit_is_the_spread_of_the_verified_samples() -> None:
    case, _ = made_up(0)
    stretched = case.reference.features * torch.linspace(1, 1000, case.reference.features.shape[1])
    points = whitened(case)
    object.__setattr__(case.reference, "features", stretched)
    torch.testing.assert_close(whitened(case), points, rtol=1e-3, atol=1e-3)
    assert points.shape == (CLASSES * EACH, 12)
    centres = torch.stack([points[case.seeds[case.labels[case.seeds] == 0]].mean(dim=0)])
    torch.testing.assert_close(centres, torch.zeros_like(centres), atol=1e-9, rtol=0)

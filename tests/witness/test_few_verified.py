"""Too few verified samples: what witnesses make of them, and what they say they have not seen."""

from __future__ import annotations

import torch

from tests.witness.cases import CLASSES, EACH, VERIFIED, ground_of, made_up
from witness.spectral import SpectralScore
from witness.unverified_group import UnverifiedGroup
from witness.witness import FEWEST_VERIFIED, Case


def test_too_few_verified_samples_count_as_none() -> None:
    """They are neither enough to acquit a group, nor a reason to say nothing at all."""
    case, truth = made_up(100)
    few = Case(case.ground, case.labels, case.seeds[:: VERIFIED // 2], case.reference)
    none = Case(case.ground, case.labels, case.seeds[:0], case.reference)
    assert 0 < int(torch.bincount(case.labels[few.seeds]).max()) < FEWEST_VERIFIED
    unverified = UnverifiedGroup(UnverifiedGroup.Settings())
    said = [unverified.testify(one) for one in (few, none)]
    assert said[0].accused == said[1].accused and list(said[0].accused) == [1]
    assert said[0].looked_at == frozenset(range(CLASSES))
    assert float(said[0].vetoed[truth].double().mean()) > 0.9


def test_who_needs_verified_samples_says_that_it_has_not_looked() -> None:
    case, _ = made_up(100)
    few = Case(case.ground, case.labels, case.seeds[:: VERIFIED // 2], case.reference)
    spectral = SpectralScore(SpectralScore.Settings())
    assert spectral.testify(few).looked_at == frozenset()
    assert spectral.testify(case).looked_at == frozenset(range(CLASSES))
    small = case.labels.clone()
    small[: EACH - 10] = 1
    left = Case(ground_of(small), small, case.seeds, case.reference)
    assert 0 not in (UnverifiedGroup(UnverifiedGroup.Settings()).testify(left).looked_at or ())

"""A weak pattern in a few images of one label: seen there, and not where all labels have it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data.poison import TrainingSet
from tests.conftest import colourful_images
from tests.witness.cases import ground_of, reference_of
from witness import rare_pattern
from witness.pattern import StaticPattern, rough
from witness.rare_pattern import RarePattern, Rough, mean_of
from witness.witness import Case, Statement

CLASSES, EACH, VERIFIED, MARKED = 3, 600, 10, 40
PATTERN = colourful_images(1, 16, seed=99)[0].float()


def case_with(marked_in: tuple[int, ...], strength: float = 0.24, seed: int = 0) -> Case:
    """Return a case in which the last images of these labels have the pattern blended in."""
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    images = colourful_images(len(labels), 16, seed).float()
    for label in marked_in:
        own = slice((label + 1) * EACH - MARKED, (label + 1) * EACH)
        images[own] = (1 - strength) * images[own] + strength * PATTERN
    seeds = torch.cat([label * EACH + torch.arange(VERIFIED) for label in range(CLASSES)])
    features, losses = torch.zeros(len(labels), 3), torch.zeros(2, len(labels))
    return Case(
        ground_of(labels, images.round().byte()), labels, seeds, reference_of(features, losses)
    )


def heard(case: Case) -> Statement:
    return RarePattern(RarePattern.Settings()).testify(case)


def marked(label: int) -> Tensor:
    chosen = torch.zeros(CLASSES * EACH, dtype=torch.bool)
    chosen[(label + 1) * EACH - MARKED : (label + 1) * EACH] = True
    return chosen


def test_a_weak_pattern_in_a_few_images_is_seen_where_the_label_s_mean_shows_none() -> None:
    case, chosen = case_with((1,)), marked(1)
    statement = heard(case)
    assert float(statement.vetoed[chosen].double().mean()) > 0.9
    assert float(statement.vetoed[~chosen].double().mean()) < 0.02
    assert not statement.vetoed[case.seeds].any()
    assert float(statement.suspicion[chosen].median()) > 3
    assert not StaticPattern(StaticPattern.Settings()).testify(case).vetoed.any()


def test_only_groups_far_apart_make_a_verdict() -> None:
    assert heard(case_with((1,), strength=0.35)).accused[1] > 0.5
    assert 0 < heard(case_with((1,))).accused[1] < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_clean_images_have_none(seed: int) -> None:
    statement = heard(case_with((), seed=seed))
    assert not statement.vetoed.any()
    assert not statement.accused
    assert statement.looked_at == frozenset(range(CLASSES))


def test_what_all_labels_have_is_no_trigger() -> None:
    """Photographs with a frame are in all classes."""
    assert not heard(case_with((0, 1, 2))).vetoed.any()


def test_what_the_verified_samples_have_is_no_trigger() -> None:
    case = case_with((1,))
    assert not heard(replace(case, seeds=torch.nonzero(marked(1)).flatten()[:10])).vetoed.any()


def test_a_label_of_few_images_is_not_looked_at() -> None:
    case = case_with((1,))
    few = torch.cat([torch.arange(EACH), torch.arange(EACH, 2 * EACH, 10)])
    training = case.ground.training
    other = Case(
        ground_of(case.labels[few], training.images[few]),
        case.labels[few],
        case.seeds[:VERIFIED],
        case.reference,
    )
    assert heard(other).looked_at == frozenset()  # nor the other one: nothing is left beside it


def test_the_order_of_the_samples_does_not_matter() -> None:
    case = case_with((1,))
    order = torch.randperm(len(case.labels), generator=torch.Generator().manual_seed(1))
    training = case.ground.training
    shuffled = TrainingSet(training.images[order], case.labels[order], training.classes)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    ground = ground_of(shuffled.labels, shuffled.images)
    other = Case(ground, case.labels[order], place[case.seeds], case.reference)
    assert torch.equal(heard(other).vetoed, heard(case).vetoed[order])


def test_what_is_not_kept_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    images, members = colourful_images(20, 8), torch.arange(0, 20, 2)
    plain = rough(images[members]).double() - mean_of(images)
    kept = Rough(images, members, mean_of(images))
    monkeypatch.setattr(rare_pattern, "KEPT", 0)
    made = Rough(images, members, mean_of(images))
    direction, weights = torch.rand(192).double(), torch.rand(10).double()
    for look in (kept, made):
        torch.testing.assert_close(look.along(direction), plain @ direction)
        torch.testing.assert_close(look.weighted(weights), weights @ plain)
        torch.testing.assert_close(look.squares(), plain.pow(2).sum(dim=1))

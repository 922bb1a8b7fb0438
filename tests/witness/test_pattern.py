"""A pattern at a fixed place: seen where a part of one label's images share it, not elsewhere."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from data.poison import TrainingSet
from tests.conftest import colourful_images
from tests.witness.cases import CLASSES, EACH, VERIFIED, ground_of, reference_of
from witness.line import Line, divide_line
from witness.pattern import StaticPattern, likeness, rough
from witness.witness import Case, Statement

FIRST = slice(EACH, 2 * EACH)  # the images of label 1


def case_with(pattern: Tensor | None, marked: int, seed: int = 0) -> tuple[Case, Tensor]:
    """Return a case in which the last `marked` images of label 1 have `pattern` blended in."""
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    images = colourful_images(len(labels), 16, seed).float()
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    if pattern is not None and marked:
        chosen[2 * EACH - marked : 2 * EACH] = True
        images[chosen] = 0.7 * images[chosen] + 0.3 * pattern
    seeds = torch.cat([label * EACH + torch.arange(VERIFIED) for label in range(CLASSES)])
    features, losses = torch.zeros(len(labels), 3), torch.zeros(2, len(labels))
    ground = ground_of(labels, images.round().byte())
    return Case(ground, labels, seeds, reference_of(features, losses)), chosen


def heard(case: Case) -> Statement:
    return StaticPattern(StaticPattern.Settings()).testify(case)


PATTERN = colourful_images(1, 16, seed=99)[0].float()


@pytest.mark.parametrize("marked", [50, 80, 140])
def test_a_blended_picture_is_seen(marked: int) -> None:
    case, chosen = case_with(PATTERN, marked)
    statement = heard(case)
    assert list(statement.accused) == [1]
    assert float(statement.vetoed[chosen].double().mean()) > 0.95
    assert float(statement.vetoed[~chosen].double().mean()) < 0.03
    assert not statement.vetoed[case.seeds].any()
    assert float(statement.suspicion[chosen].min()) > float(statement.suspicion[case.seeds].max())


@pytest.mark.parametrize("seed", range(5))
def test_clean_images_accuse_nobody(seed: int) -> None:
    statement = heard(case_with(None, 0, seed)[0])
    assert not statement.accused
    assert not statement.vetoed.any()
    assert not statement.suspicion.any()


def test_what_all_of_a_label_have_is_its_content() -> None:
    """A traffic sign is in all of its pictures, the verified ones too."""
    statement = heard(case_with(PATTERN, EACH)[0])
    assert not statement.accused


def test_what_verified_samples_have_is_no_trigger() -> None:
    case, _ = case_with(PATTERN, 80)
    marked = torch.arange(2 * EACH - 10, 2 * EACH)
    assert not heard(Case(case.ground, case.labels, marked, case.reference)).accused


@pytest.mark.parametrize("key", ["separation", "share", "verified", "largest"])
def test_limits_that_mean_nothing_are_refused(key: str) -> None:
    for value in (-0.1, float("nan")):
        with pytest.raises(ValidationError):
            StaticPattern.Settings.model_validate({key: value})


def test_the_order_of_the_samples_does_not_matter() -> None:
    case, _ = case_with(PATTERN, 60)
    order = torch.randperm(len(case.labels), generator=torch.Generator().manual_seed(1))
    training = case.ground.training
    shuffled = TrainingSet(training.images[order], case.labels[order], training.classes)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    other = Case(
        ground_of(shuffled.labels, shuffled.images),
        case.labels[order],
        place[case.seeds],
        case.reference,
    )
    assert torch.equal(heard(other).vetoed, heard(case).vetoed[order])


def test_likeness_leaves_out_the_image_itself() -> None:
    images = colourful_images(6, 8)
    members = torch.tensor([0, 2, 3, 5])
    plain = rough(images[members]).double()
    found = likeness(images, members)
    for row in range(4):
        others = plain[torch.arange(4) != row].mean(dim=0)
        assert float(found[row]) == pytest.approx(float(plain[row] @ others), abs=1e-9)


def test_a_line_is_divided_where_the_groups_are() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(900, generator=generator, dtype=torch.double)
    high = 6 + torch.randn(100, generator=generator, dtype=torch.double)
    line = divide_line(torch.cat([low, high]))
    assert line.separation == pytest.approx(6, abs=0.3)
    assert line.share == pytest.approx(0.1, abs=0.01)
    assert float(line.distance[:900].mean()) == pytest.approx(0, abs=0.1)
    assert bool((line.high[900:] > 0.5).double().mean() > 0.98)


def test_few_verified_images_ask_for_as_much_as_none() -> None:
    """One image without the pattern acquits nothing."""
    line = Line((torch.arange(100) >= 70).double(), 4.0, torch.zeros(100).double())
    witness, verified = StaticPattern(StaticPattern.Settings()), torch.zeros(100, dtype=torch.bool)
    assert not witness.accuses(line, verified)
    verified[:4] = True
    assert not witness.accuses(line, verified)
    verified[:5] = True
    assert witness.accuses(line, verified)

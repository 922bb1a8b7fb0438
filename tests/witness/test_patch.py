"""A pasted patch: seen in few images of one label, and told from edges, films and marks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from data.dataset import Request
from data.dataset.digits import Digits
from data.dataset.settings import DataSection
from data.poison import TrainingSet
from tests.conftest import colourful_images
from tests.witness.cases import CLASSES, EACH, VERIFIED, ground_of, reference_of
from witness.patch import PastedPatch, most_copied, reduced, stands_elsewhere, windows
from witness.witness import Case, Statement

BOARD = torch.tensor([[255, 0, 255], [0, 255, 0], [255, 0, 255]], dtype=torch.uint8)[..., None]
SEEDS = torch.cat([label * EACH + torch.arange(VERIFIED) for label in range(CLASSES)])
LABELS = torch.arange(CLASSES).repeat_interleave(EACH)


def last_of(label: int, count: int) -> Tensor:
    """Return (N,) bool, the last `count` samples of a label."""
    chosen = torch.zeros(len(LABELS), dtype=torch.bool)
    chosen[(label + 1) * EACH - count : (label + 1) * EACH] = True
    return chosen


def case_of(images: Tensor, seeds: Tensor = SEEDS) -> Case:
    reference = reference_of(torch.zeros(len(LABELS), 3), torch.zeros(2, len(LABELS)))
    return Case(ground_of(LABELS, images), LABELS, seeds, reference)


def pasted(*groups: Tensor, side: int = 16, seed: int = 0) -> Tensor:
    """Return images (N, side, side, 3) with the patch in the corner of those in `groups`."""
    images = colourful_images(len(LABELS), side, seed)
    for chosen in groups:
        images[chosen, -4:-1, -4:-1] = BOARD
    return images


def heard(case: Case, **settings: float) -> Statement:
    return PastedPatch(PastedPatch.Settings.model_validate(settings)).testify(case)


@pytest.mark.parametrize("marked", [12, 40, 140])
@pytest.mark.parametrize("side", [16, 32])
def test_a_patch_is_seen_in_few_images_and_in_many(marked: int, side: int) -> None:
    chosen = last_of(1, marked)
    statement = heard(case_of(pasted(chosen, side=side)))
    assert list(statement.accused) == [1]
    assert torch.equal(statement.vetoed, chosen)
    assert statement.accused[1] >= 0.5
    assert float(statement.suspicion[chosen].min()) > float(statement.suspicion[~chosen].max())


def test_several_targets_are_seen() -> None:
    groups = [last_of(label, 15) for label in (0, 2, 3)]
    assert sorted(heard(case_of(pasted(*groups))).accused) == [0, 2, 3]


@pytest.mark.parametrize("seed", range(4))
def test_clean_images_accuse_nobody(seed: int) -> None:
    statement = heard(case_of(pasted(seed=seed)))
    assert not statement.accused and not statement.vetoed.any() and not statement.suspicion.any()


def test_a_patch_of_several_pixels_that_repeats_itself_is_seen() -> None:
    images, chosen = pasted(), last_of(1, 20)
    images[chosen, 9:15, 9:15] = BOARD[:2, :2].repeat(3, 3, 1)
    assert list(heard(case_of(images)).accused) == [1]


def test_few_copies_are_no_evidence() -> None:
    assert not heard(case_of(pasted(last_of(1, 9)))).accused
    assert heard(case_of(pasted(last_of(1, 9))), fewest=5).accused
    assert not heard(case_of(pasted(last_of(1, 30))), share=0.2).accused


def test_without_verified_samples_twice_as_many_are_needed() -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    assert not heard(case_of(pasted(last_of(1, 18)), nobody)).accused
    assert heard(case_of(pasted(last_of(1, 20)), nobody)).accused


def test_what_verified_samples_hold_as_often_is_no_trigger() -> None:
    images, chosen = pasted(last_of(1, 100)), torch.nonzero(last_of(1, 100)).flatten()
    assert heard(case_of(images)).accused
    assert not heard(case_of(images, chosen[:10])).accused
    mixed = torch.cat([chosen[:2], torch.arange(EACH, EACH + 18)])  # a tenth, where half hold it
    statement = heard(case_of(images, mixed))
    assert statement.accused
    assert not statement.vetoed[mixed].any()


def test_frames_of_a_film_are_no_poison() -> None:
    images, chosen = pasted(), last_of(1, 30)
    images[chosen] = images[chosen][0]
    noise = torch.randint(0, 4, images[chosen].shape, generator=torch.Generator().manual_seed(0))
    images[chosen] = (images[chosen].int() + noise).clamp(0, 255).byte()
    copies = most_copied(images, torch.nonzero(LABELS == 1).flatten(), PastedPatch.Settings())
    assert len(copies.members) >= 20
    assert not heard(case_of(images)).accused
    assert heard(case_of(images), scene=0.0).accused


def test_an_edge_stands_at_other_places_too() -> None:
    images, chosen = pasted(side=32), last_of(1, 30)
    images[chosen, 5:8] = torch.tensor([0, 255, 255], dtype=torch.uint8)[:, None, None]
    members = torch.nonzero(LABELS == 1).flatten()
    copies = most_copied(images, members, PastedPatch.Settings())
    assert len(copies.members) >= 30
    assert stands_elsewhere(images, members, copies)
    assert not heard(case_of(images)).accused


def test_a_stroke_that_others_have_nearly_so_is_no_poison() -> None:
    images, exact, nearly = pasted(), last_of(1, 20), last_of(1, 35) & ~last_of(1, 20)
    images[exact, 6:9, 6:9] = BOARD
    images[nearly, 6:9, 6:9] = BOARD // 5 * 4 + 25
    assert not heard(case_of(images)).accused
    assert torch.equal(heard(case_of(images), gap=2.0).vetoed, exact)


@pytest.mark.parametrize("seed", range(3))
def test_written_digits_accuse_nobody(seed: int) -> None:
    train = Digits().load(Request(None, DataSection(), Path())).train
    images, labels = train.images, train.labels
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    seeds = torch.cat([order[labels[order] == label][:20] for label in range(10)])
    ground = ground_of(labels, images)
    case = Case(ground, labels, seeds, reference_of(torch.zeros(len(labels), 3), torch.zeros(2, 9)))
    assert not heard(case).accused
    assert not heard(case, fewest=6).accused
    assert seed or heard(case, gap=10.0, fewest=6).accused  # strokes that some write alike


def test_a_mark_in_all_labels_evenly_is_no_poison() -> None:
    groups = [last_of(label, 30) for label in range(CLASSES)]
    assert not heard(case_of(pasted(*groups)), others=2.0).accused
    assert len(heard(case_of(pasted(*groups)), others=4.0).accused) == CLASSES


def test_the_order_of_the_samples_does_not_matter() -> None:
    images = pasted(last_of(1, 60))
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    first, case = heard(case_of(images)), case_of(images)
    training = TrainingSet(images[order], LABELS[order], case.ground.training.classes)
    ground = ground_of(LABELS[order], training.images)
    seeds = torch.nonzero(torch.isin(order, SEEDS)).flatten()
    second = heard(Case(ground, LABELS[order], seeds, case.reference))
    assert first.accused == second.accused
    assert torch.equal(first.vetoed[order], second.vetoed)


def test_large_images_are_looked_at_in_a_smaller_size() -> None:
    images = colourful_images(3, 64)
    assert reduced(images).shape == (3, 32, 32, 3)
    assert torch.equal(reduced(images[:, :32, :20]), images[:, :32, :20])
    assert windows(images[:, :16, :16]).shape == (14 * 14, 3, 27)


@pytest.mark.parametrize(
    "key", ["fewest", "share", "largest", "difference", "contrast", "scene", "gap", "others"]
)
def test_limits_that_mean_nothing_are_refused(key: str) -> None:
    for value in (-0.1, float("nan")):
        with pytest.raises(ValidationError):
            PastedPatch.Settings.model_validate({key: value})

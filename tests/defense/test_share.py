"""How much is kept, from the data."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from defense.share import HIGHEST_GAP, LOWEST_GAP, find_gap, keep_by_evidence

CLASSES, EACH = 5, 200
NOBODY = torch.zeros(CLASSES, dtype=torch.bool)
ALL = torch.ones(CLASSES, dtype=torch.bool)


def losses(poisoned: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return loss, reference loss, agreement, labels and truth; poison has label 0."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat(
        [torch.arange(CLASSES).repeat_interleave(EACH), torch.zeros(poisoned)]
    ).long()
    truth = torch.arange(len(labels)) >= CLASSES * EACH
    loss = 0.5 + torch.rand(len(labels), generator=generator)
    reference = (loss + 0.5 * torch.randn(len(labels), generator=generator)).clamp_min(0.01)
    agrees = torch.rand(len(labels), generator=generator) < 0.85
    loss[~agrees] += 1
    loss[truth] = 5 + torch.rand(poisoned, generator=generator)
    reference[truth] = 0.01
    agrees[truth] = torch.rand(poisoned, generator=generator) < 0.1  # some are already believed
    return loss, reference, agrees, labels, truth


@pytest.mark.parametrize("poisoned", [10, 50, 200])
def test_most_clean_labels_are_kept_and_no_poison(poisoned: int) -> None:
    loss, reference, agrees, labels, truth = losses(poisoned)
    share = keep_by_evidence(loss, reference, agrees, labels, NOBODY, 0.0)
    assert not (share.kept & truth).any()
    assert float(share.kept[~truth].double().mean()) > 0.8
    assert share.figures()["objected_share"] >= poisoned / len(labels)
    assert share.filled == 0


def test_in_an_accused_class_the_model_must_agree() -> None:
    loss, reference, agrees, labels, _ = losses(0)
    accused = NOBODY.clone()
    accused[2] = True
    share = keep_by_evidence(loss, reference, agrees, labels, accused, 0.0)
    assert share.agreed == pytest.approx(float(agrees.double().mean()))
    assert not (share.kept & (labels == 2) & ~agrees).any()
    others = labels != 2
    assert int((~share.kept & others).sum()) < 0.02 * len(labels)


def test_an_implausible_label_is_dropped_though_no_model_knows_it() -> None:
    """A mislabelled sample, or poison that the plain model has not learnt."""
    loss, reference, agrees, labels, _ = losses(0)
    loss[:10], reference[:10], agrees[:10] = 6.0, 6.0, False
    share = keep_by_evidence(loss, reference, agrees, labels, NOBODY, 0.0)
    assert not share.kept[:10].any()


def test_no_class_is_lost_and_the_barred_stay_out() -> None:
    loss, reference, agrees, labels, _ = losses(100)
    agrees[labels == 3] = False
    loss[labels == 4] = torch.inf
    share = keep_by_evidence(loss, reference, agrees, labels, ALL, 0.5)
    floor = int(0.5 * EACH / 2)  # of the class, which is smaller than an even part
    assert int(share.kept[labels == 3].sum()) == floor == share.filled
    assert not share.kept[labels == 4].any()
    reduction = loss - reference
    own = labels == 3
    assert reduction[own & share.kept].max() <= reduction[own & ~share.kept].min()


def test_a_small_class_that_is_mostly_poison_is_not_kept_whole() -> None:
    """The floor is for a hard class; of one that everything speaks against it leaves a part."""
    loss, reference, agrees, labels, _ = losses(0)
    small = torch.nonzero(labels == 3).flatten()[:30]
    chosen = torch.cat([torch.nonzero(labels != 3).flatten(), small])
    loss, reference, agrees, labels = (v[chosen] for v in (loss, reference, agrees, labels))
    loss[-30:], reference[-30:], agrees[-30:] = 8.0, 0.001, False
    share = keep_by_evidence(loss, reference, agrees, labels, ALL, 0.5)
    assert int(share.kept[-30:].sum()) == math.ceil(0.5 * 30 / 2)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=50))
def test_the_gap_stays_within_its_bounds(values: list[float]) -> None:
    assert LOWEST_GAP <= find_gap(torch.tensor(values)) <= HIGHEST_GAP


def test_the_gap_lies_between_two_groups() -> None:
    low, high = torch.full((900,), 0.5), torch.full((100,), 5.5)
    assert LOWEST_GAP <= find_gap(torch.cat([low, high])) < 5.5
    assert find_gap(torch.cat([low - 6, high])) == pytest.approx(LOWEST_GAP)

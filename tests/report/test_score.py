"""How suspicious a sample is, and in which order people are told of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.review import Review
from report.findings import from_the_worst
from report.purified import may_be_kept
from report.score import evidence, ranks, rarity, robust_deviations, suspicion
from run.measure import ranking_quality
from tests.report.made_up import NOBODY, made_up
from witness.hearing import Testimony
from witness.witness import Statement


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_are_shares_of_lower_samples(values: list[int]) -> None:
    found = ranks(torch.tensor(values))
    for value, rank in zip(values, found.tolist(), strict=True):
        lower = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        assert rank == pytest.approx((lower + equal / 2) / len(values))


def test_rarity_is_of_the_own_label_within_the_given_one() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 0, 1])
    found = rarity(labels, predicted, 2)
    assert found.tolist() == pytest.approx(
        [-math.log(3 / 4)] * 3 + [-math.log(1 / 4), -math.log(1 / 2), -math.log(1 / 2)]
    )


def test_poison_outranks_hard_samples_of_its_own_target() -> None:
    """Both look alike but for the own labels: of the hard ones they are all the same."""
    findings = made_up(poisoned_from=950)
    opinion, labels = findings.opinion, findings.training.labels
    hard = torch.nonzero(labels[:950] == 3).flatten()[:60]
    opinion.predicted[hard] = 5
    opinion.given[hard] = opinion.given[950:].mean()
    for loss in findings.history.losses.values():
        loss[hard] = loss[950:].mean()
    against = evidence(opinion, findings.history, labels, 10)
    score = suspicion(against, labels, {3: 0.5}, NOBODY)
    assert score[950:].median() > score[hard].max()


def test_samples_of_other_classes_keep_the_less_the_denser_the_target_stands() -> None:
    against = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0])
    labels = torch.tensor([3, 5, 3, 7, 5])
    target = labels == 3
    for dense in (0.5, 0.75):
        score = suspicion(against, labels, {3: dense}, NOBODY)
        assert torch.equal(score[~target], against[~target] * (1 - dense))
        assert torch.equal(score[target], against[target])
    both = suspicion(against, labels, {3: 0.25, 7: 0.5}, NOBODY)  # the densest of them counts
    assert torch.equal(both, torch.where(labels == 5, against * 0.5, against))
    assert torch.equal(suspicion(against, labels, {}, NOBODY), against)


def test_what_a_person_says_decides_the_score_and_what_is_kept() -> None:
    findings = made_up(poisoned_from=950)
    review = Review(accepted=torch.tensor([990]), rejected=torch.tensor([10]))
    labels = findings.training.labels
    against = evidence(findings.opinion, findings.history, labels, 10)
    score = suspicion(against, labels, {3: 0.5}, review)
    assert score[990] == 0 and score[10] == 1 and score.min() >= 0 and score.max() <= 1
    kept = may_be_kept(findings.opinion, findings.training.labels, findings.seeds, review)
    assert kept[990] and not kept[10]
    assert int(kept[950:].sum()) == 1  # none of the poisoned samples but the reviewed one


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40))
def test_deviations_keep_the_order_and_make_no_equals(values: list[float]) -> None:
    given_values = torch.tensor(values)
    found = robust_deviations(given_values)
    assert found.isfinite().all()
    larger = given_values[:, None] > given_values
    assert (found[:, None] >= found)[larger].all()
    far = larger & (given_values[None] >= 1e-3 * given_values.max())
    assert (found[:, None] > found)[far].all()


@pytest.mark.parametrize("middle", [0.0, 1e-30, 1e-7, 1e-3, 1.0])
def test_no_model_is_too_confident_to_tell_suspects_apart(middle: float) -> None:
    loss = torch.full((1000,), middle)
    loss[::3] *= 0.5
    loss[:300] = torch.linspace(1, 12, 300)
    found = robust_deviations(loss)
    assert len(found[:300].unique()) == 300 and (found[:300].diff() > 0).all()


def test_equal_scores_are_ordered_by_what_else_is_known() -> None:
    score = torch.tensor([0.5, 1.0, 0.5, 0.5, 0.5])
    contradiction = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0]).double()
    names = ["b", "x", "c", "a", "d"]
    order = from_the_worst(score, contradiction, lambda index: names[index])
    assert order.tolist() == [1, 2, 3, 0, 4]
    assert from_the_worst(score, contradiction, None).tolist() == [1, 2, 0, 3, 4]


def test_precision_of_equal_scores_does_not_depend_on_their_order() -> None:
    poisoned = torch.tensor([True, False, False, True])
    found = [
        ranking_quality(torch.ones(4), poisoned[order])["suspects_precision"]
        for order in torch.tensor([[0, 1, 2, 3], [1, 2, 0, 3], [0, 3, 1, 2]])
    ]
    assert found == [0.5] * 3


def test_what_a_witness_but_suspects_ranks_higher_and_what_it_vetoes_highest() -> None:
    findings = made_up(1000)
    labels, nothing = findings.training.labels, torch.zeros(1000, dtype=torch.bool)
    suspicion_of = torch.zeros(1000)
    suspicion_of[100:110], suspicion_of[200:210] = 20.0, 20.0
    vetoed = nothing.clone()
    vetoed[200:210] = True
    suspect, veto = Statement(suspicion_of, nothing), Statement(0 * suspicion_of, vetoed)
    said = {"confusion": suspect, "pipd": veto}
    before = evidence(findings.opinion, findings.history, labels, 10)
    after = evidence(findings.opinion, findings.history, labels, 10, Testimony(said, vetoed))
    assert after[200:210].min() > after[~vetoed].max()
    assert (after[100:110] > before[100:110]).all()
    others = torch.cat([torch.arange(100), torch.arange(300, 1000)])
    assert torch.equal(after[others].argsort(stable=True), before[others].argsort(stable=True))

"""The witness that waits: groups that the plain model knows and the model in training denies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.witness.cases import CLASSES, EACH, made_up, settings_of
from utils.choice import Choice
from witness.contradicted_group import ContradictedGroup, knowledge
from witness.hearing import Hearing
from witness.settings import WitnessSection
from witness.witness import Case

DENIED, BELIEVED = 4.0, 0.2  # nats


def witness(**given: float) -> ContradictedGroup:
    return ContradictedGroup(settings_of(ContradictedGroup, **given))


def told(case: Case, denied: torch.Tensor, seed: int = 0) -> Case:
    """Return the case with a model in training that denies some labels."""
    noise = torch.rand(len(case.labels), generator=torch.Generator().manual_seed(seed)) / 2
    losses = torch.where(denied, torch.tensor(DENIED), torch.tensor(BELIEVED)) + noise
    return replace(case, model_loss=losses)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("poisoned", [30, 100, 300])
def test_a_denied_group_is_vetoed_with_those_of_it_that_are_believed(
    poisoned: int, seed: int
) -> None:
    case, truth = made_up(poisoned, seed)
    denied = truth.clone()
    denied[torch.nonzero(truth).flatten()[::5]] = False  # a fifth looks like its label
    said = witness().testify(told(case, denied, seed))
    assert list(said.accused) == [1]
    assert 0.5 <= said.accused[1] <= 1
    assert int((said.vetoed & truth).sum()) >= 0.95 * poisoned
    assert int((said.vetoed & ~truth).sum()) <= 0.01 * int((~truth).sum())
    assert not said.vetoed[case.seeds].any()
    assert said.suspicion[said.vetoed].min() > said.suspicion[~said.vetoed].max()


@pytest.mark.parametrize("seed", range(8))
def test_single_denied_samples_are_no_group(seed: int) -> None:
    """Hard samples: a tenth of each class, anywhere in it, which the plain model knows by heart."""
    case, _ = made_up(0, seed)
    denied = torch.rand(len(case.labels), generator=torch.Generator().manual_seed(seed)) < 0.1
    said = witness().testify(told(case, denied))
    assert not said.accused
    assert not said.vetoed.any()


@pytest.mark.parametrize("seed", range(8))
def test_a_natural_group_that_is_hard_for_both_is_not_accused(seed: int) -> None:
    """Each class has two modes; one of them is hard for the model in training and the plain one."""
    case, _ = made_up(0, seed)
    hard = case.reference.losses[0] > case.reference.losses[0].median()
    reference = replace(case.reference, loss=torch.where(hard, DENIED, 0.1))
    assert not witness().testify(told(replace(case, reference=reference), hard)).accused


def test_an_unusual_group_that_was_learnt_later_is_not_accused() -> None:
    """Some deer of CIFAR-10: the model in training has not met their like yet."""
    case, unusual = made_up(100)
    losses = case.reference.losses.clone()
    losses[:, unusual] = 4.0
    late = replace(case, reference=replace(case.reference, losses=losses))
    assert list(witness().testify(told(case, unusual)).accused) == [1]
    assert not witness().testify(told(late, unusual)).accused


@pytest.mark.parametrize(("ignorance", "accused"), [(0.0, [1]), (0.4, [1]), (0.7, [])])
def test_a_model_that_knows_little_is_not_asked(ignorance: float, accused: list[int]) -> None:
    case, truth = told(*made_up(100)), made_up(100)[1]
    assert case.model_loss is not None
    doubted = torch.rand(len(truth), generator=torch.Generator().manual_seed(5)) < ignorance
    losses = torch.where(doubted & ~truth, 1.2, case.model_loss)
    said = witness().testify(replace(case, model_loss=losses))
    assert list(said.accused) == accused
    assert bool(said.vetoed.any()) == bool(accused)


def test_knowledge_is_none_by_guessing_and_whole_by_knowing() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    first = (labels == 0).float()  # a model that always says 0
    assert knowledge(1 - first, labels, 2) == pytest.approx(0.0)
    assert knowledge(torch.zeros(100), labels, 2) == pytest.approx(1.0)
    assert knowledge(torch.ones(100), labels, 10) < 0


def test_clean_labels_are_denied_by_nobody() -> None:
    case, truth = made_up(100)
    assert not witness().testify(told(case, torch.zeros_like(truth))).accused


def test_without_verified_samples_it_sees_the_same_group() -> None:
    case, truth = made_up(100)
    said = witness().testify(told(replace(case, seeds=case.seeds[:0]), truth))
    assert list(said.accused) == [1]
    assert int((said.vetoed & truth).sum()) >= 95


def test_the_order_of_samples_says_nothing() -> None:
    case, truth = made_up(60)
    case = told(case, truth)
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(3))
    reference = case.reference
    assert case.model_loss is not None
    shuffled = Case(
        case.ground,
        case.labels[order],
        torch.nonzero(case.verified[order]).flatten(),
        replace(
            reference,
            features=reference.features[order],
            losses=reference.losses[:, order],
            loss=reference.loss[order],
        ),
        case.model_loss[order],
    )
    assert torch.equal(witness().testify(shuffled).vetoed, witness().testify(case).vetoed[order])


def test_it_waits_until_the_model_has_learnt(tmp_path: Path) -> None:
    case, truth = made_up(100)
    with pytest.raises(ValueError, match="not known yet"):
        witness().testify(case)
    heard = [Choice("contradicted_group", settings_of(ContradictedGroup))]
    hearing = Hearing(WitnessSection(heard=heard), case.ground, case.seeds, tmp_path)
    hearing.__dict__["reference"] = case.reference  # as if it had been trained
    assert not hearing.testimony.statements
    assert not hearing.testimony.vetoed.any()
    told_case = told(case, truth)
    assert told_case.model_loss is not None
    hearing.tell(told_case.model_loss)
    assert list(hearing.testimony.accused) == [1]
    hearing.tell(torch.zeros(CLASSES * EACH + 100))  # what it believes later does not count
    assert list(hearing.testimony.accused) == [1]

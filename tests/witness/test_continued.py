"""Copies of the plain model that go on: a trigger survives confusion and forgetting."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from tests.witness.cases import made_up, settings_of
from tests.witness.small import TARGET, learnt
from witness.asking import answers_of
from witness.confusion import BATCH, CONFUSED, ConfusionTraining, confusing
from witness.continued import Lesson, taught
from witness.virtual_victim import VirtualVictim, forgetting
from witness.witness import Case


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Tensor]:
    return learnt(tmp_path_factory.mktemp("poisoned"))


def confusion(**given: float) -> ConfusionTraining:
    return ConfusionTraining(settings_of(ConfusionTraining, **given))


def test_the_trigger_survives_confusion(poisoned: tuple[Case, Tensor]) -> None:
    case, truth = poisoned
    statement = confusion().testify(case)
    assert roc_auc_score(truth, statement.suspicion) > 0.95
    assert not statement.vetoed.any()
    assert statement.cost == pytest.approx(3 * (3 * 20 * 80 / 400 + 1))


def test_only_verified_samples_get_wrong_labels_and_each_of_them() -> None:
    case, _ = made_up(40)
    lesson = confusing(case, 50, 0.01)
    own, confused = lesson.samples.split([BATCH, CONFUSED], dim=1)
    given, wrong = lesson.labels.split([BATCH, CONFUSED], dim=1)
    assert torch.equal(given, case.labels[own])
    assert bool((wrong != case.labels[confused]).all())
    assert set(wrong.unique().tolist()) == set(range(case.num_classes))
    assert bool(case.verified[confused].all())
    assert len(own.unique()) > 0.9 * len(case.labels)
    assert not torch.equal(confusing(case, 50, 0.01, 1).samples, lesson.samples)


def test_without_verified_samples_there_is_nothing_to_confuse() -> None:
    case, _ = made_up(40)
    statement = confusion().testify(replace(case, seeds=case.seeds[:0]))
    assert not statement.suspicion.any()
    assert statement.cost == 0


def test_a_copy_learns_its_lesson_and_the_reference_stays(poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    before = {key: value.clone() for key, value in case.reference.network.state_dict().items()}
    samples = torch.arange(400).repeat(3).view(-1, 40)
    lesson = Lesson(samples, torch.full_like(samples, 2), torch.ones(samples.shape), rate=0.01)
    network = taught(case, lesson, "confusion-augment")
    share = (answers_of(case, "asked", network).argmax(dim=1) == 2).double().mean()
    assert float(share) > 0.95
    after = case.reference.network.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert lesson.cost(case) == pytest.approx(9)


def test_samples_of_weight_zero_teach_nothing(poisoned: tuple[Case, Tensor]) -> None:
    case, _ = poisoned
    samples = torch.arange(80).view(2, 40)
    labels, weights = case.labels[samples], torch.ones(2, 40)
    weights[:, 20:] = 0
    other = labels.clone()
    other[:, 20:] = (other[:, 20:] + 1) % case.num_classes
    networks = [
        taught(case, Lesson(samples, given, weights, 0.01), "confusion-augment")
        for given in (labels, other)
    ]
    first, second = (answers_of(case, "asked", network) for network in networks)
    torch.testing.assert_close(first, second)


def test_the_trigger_is_forgotten_last(poisoned: tuple[Case, Tensor]) -> None:
    case, truth = poisoned
    statement = VirtualVictim(settings_of(VirtualVictim)).testify(case)
    own = case.labels == TARGET
    assert roc_auc_score(truth[own], statement.suspicion[own]) > 0.9
    assert statement.cost == pytest.approx(3 * 6 * 40 / 400 + 1)
    assert not statement.vetoed.any()


def test_forgetting_raises_the_losses_of_verified_samples_up_to_a_bound(
    poisoned: tuple[Case, Tensor],
) -> None:
    case, _ = poisoned
    lesson = forgetting(case, 8, 0.01)
    assert bool(case.verified[lesson.samples].all())
    assert bool((lesson.weights == -1).all())
    logits = answers_of(case, "asked", taught(case, lesson, "forgetting-augment"))
    loss = nn.functional.cross_entropy(logits, case.labels, reduction="none")
    assert float(loss[case.seeds].mean()) > 2 * float(case.reference.loss[case.seeds].mean())
    many = taught(case, forgetting(case, 200, 0.01), "forgetting-augment")
    assert all(bool(value.isfinite().all()) for value in many.state_dict().values())


def test_a_victim_without_verified_samples_says_nothing() -> None:
    case, _ = made_up(40)
    statement = VirtualVictim(settings_of(VirtualVictim)).testify(
        replace(case, seeds=case.seeds[:0])
    )
    assert not statement.suspicion.any()
    assert statement.cost == 0

"""Seeds without verified samples: whom all witnesses trust most."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.witness.cases import CLASSES, EACH, made_up, settings_of
from witness import WITNESSES
from witness.hearing import Hearing
from witness.settings import WitnessSection
from witness.trust import distrust, most_trusted, places_by_label
from witness.unverified_group import UnverifiedGroup
from witness.witness import Case, Statement, Witness, suspicion_alone


def without_seeds(poisoned: int, seed: int = 0) -> tuple[Case, Tensor]:
    """A made-up case of which nobody has verified a sample, and whose model gives the labels."""
    case, truth = made_up(poisoned, seed)
    logits = functional.one_hot(case.labels, CLASSES).float()
    return Case(
        case.ground, case.labels, case.seeds[:0], replace(case.reference, logits=logits)
    ), truth


def said_of(suspicion: Tensor, vetoed: Tensor | None = None) -> Statement:
    return Statement(suspicion, torch.zeros(len(suspicion)).bool() if vetoed is None else vetoed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("poisoned", [30, 100, 180])
def test_no_poison_is_among_the_chosen(poisoned: int, seed: int) -> None:
    case, truth = without_seeds(poisoned, seed)
    said = UnverifiedGroup(settings_of(UnverifiedGroup)).testify(case)
    chosen = most_trusted(case, {"group": said}, 10)
    assert not truth[chosen].any()
    assert torch.bincount(case.labels[chosen]).tolist() == [10] * CLASSES
    assert torch.equal(chosen, chosen.unique())


def test_the_worst_of_all_opinions_counts() -> None:
    case, _ = without_seeds(0)
    own = torch.nonzero(case.labels == 2).flatten()
    middle = case.reference.losses[:1].mean(dim=0)[own].argsort()[EACH // 2]
    favourite = own[middle]
    nothing = torch.arange(len(case.labels)).float() % EACH
    trusted = nothing.index_fill(0, favourite, -1)
    suspected = nothing.index_fill(0, favourite, 1e9)
    assert favourite in most_trusted(case, {"a": said_of(trusted)}, 1)
    both = {"a": said_of(trusted), "b": said_of(suspected)}
    assert favourite not in most_trusted(case, both, 10)


def test_what_was_learnt_first_or_last_is_not_trusted() -> None:
    case, _ = without_seeds(0)
    early = case.reference.losses[0]
    chosen = most_trusted(case, {}, 20)
    for label in range(CLASSES):
        own = case.labels == label
        low, high = early[own].quantile(torch.tensor([0.4, 0.6]))
        picked = early[chosen[case.labels[chosen] == label]]
        assert low < picked.min() and picked.max() < high


def test_a_veto_and_a_contradiction_outweigh_every_place() -> None:
    case, _ = without_seeds(0)
    count = len(case.labels)
    vetoed = torch.arange(count) % 2 == 0
    contradicted = torch.arange(count) % 4 == 1
    other = torch.where(contradicted, (case.labels + 1) % CLASSES, case.labels)
    logits = functional.one_hot(other, CLASSES).float()
    told = Case(case.ground, case.labels, case.seeds, replace(case.reference, logits=logits))
    against = distrust(told, {"a": said_of(torch.zeros(count), vetoed)})
    free = ~vetoed & ~contradicted
    assert against[free].max() < against[contradicted].min()
    assert against[contradicted].max() < against[vetoed].min()
    chosen = most_trusted(told, {"a": said_of(torch.zeros(count), vetoed)}, EACH // 4)
    assert free[chosen].all()


def test_a_small_class_gives_all_that_it_has() -> None:
    case, _ = without_seeds(0)
    assert len(most_trusted(case, {}, EACH + 50)) == CLASSES * EACH


def test_places_are_among_the_same_label_and_alike_for_equals() -> None:
    values = torch.tensor([3.0, 1.0, 2.0, 7.0, 7.0, 9.0])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert places_by_label(values, labels).tolist() == [1, 0, 0.5, 0, 0, 1]
    assert places_by_label(values[:1], labels[:1]).tolist() == [0]


def test_those_are_asked_for_seeds_that_see_what_others_do_not() -> None:
    asked = {name for name in WITNESSES if WITNESSES.get(name).asked_for_seeds}
    assert asked == {"unverified_group", "pattern", "pipd", "filtered"}


class Objects(Witness):
    """Distrusts the first half of all samples."""

    asked_for_seeds = True

    def testify(self, case: Case) -> Statement:
        count = len(case.labels)
        return said_of(torch.zeros(count), torch.arange(count) < count // 2)


class NotAsked(Witness):
    def testify(self, case: Case) -> Statement:
        raise AssertionError("nobody hears it")


class Heard(NotAsked):
    def testify(self, case: Case) -> Statement:
        return suspicion_alone(torch.zeros(len(case.labels)))


def test_a_new_witness_is_asked_for_seeds_where_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case, _ = without_seeds(0)
    count = len(case.labels)
    entries = {"heard": Heard, "objects": Objects, "not_asked": NotAsked}
    monkeypatch.setattr(WITNESSES, "_entries", entries)
    settings = WitnessSection.model_validate({"heard": ["heard"]})
    hearing = Hearing(settings, case.ground, case.seeds, tmp_path)
    mixed = replace(case, labels=torch.arange(count) % CLASSES)
    hearing.__dict__ |= {"case": mixed, "reference": case.reference}
    assert list(hearing.testimony.statements) == ["heard"]
    assert int(hearing.most_trusted(EACH // 4).min()) >= count // 2

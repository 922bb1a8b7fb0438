"""How densely a class stands among the suspects, and about how many samples are poisoned."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from report.concentration import FEWEST, Suspects, concentrations, jointly, lengths, stand_out
from report.estimate import estimate_poisoned, label_pairs
from tests.report.made_up import spread


def suspects(against: torch.Tensor, labels: torch.Tensor, own: torch.Tensor) -> Suspects:
    """With as many classes as there are labels, called a, b, c and so on."""
    return Suspects(against, labels, own, [chr(97 + c) for c in range(int(labels.max()) + 1)])


@given(st.permutations(range(40)), st.integers(2, 5), st.booleans())
def test_a_random_order_is_never_fully_concentrated(
    order: list[int], classes: int, leave_one_out: bool
) -> None:
    labels = torch.arange(40) % classes
    asked = suspects(-torch.tensor(order).double(), labels, spread(labels, classes))
    for found in concentrations(asked, leave_one_out):
        assert 0 <= found.excess < 1 and 0 <= found.share <= 1


def test_concentration_of_a_known_order() -> None:
    labels = torch.tensor([1] * 20 + [0, 2] * 40)
    asked = suspects(-torch.arange(100).double(), labels, spread(labels, 3))
    found = concentrations(asked, leave_one_out=False)[0]
    assert found.label == 1 and found.share == 1 and found.first >= FEWEST
    assert concentrations(asked, leave_one_out=True)[0].label == 1


@given(st.lists(st.integers(0, 5), max_size=80), st.integers(0, 100))
def test_looks_never_part_equals(values: list[int], longest: int) -> None:
    falling = torch.tensor(sorted(values, reverse=True)).double()
    found = lengths(falling, longest)
    assert found == sorted(set(found))
    for first in found:
        assert FEWEST <= first <= len(values)
        assert first == len(values) or falling[first - 1] > falling[first]


def test_equals_are_looked_at_together() -> None:
    labels = torch.tensor([1] * 20 + [0, 2] * 40)
    asked = suspects(torch.zeros(100), labels, spread(labels, 3))
    assert concentrations(asked, leave_one_out=False)[0].first in (0, 100)


def test_equally_dense_classes_are_told_apart_by_name() -> None:
    labels = torch.arange(80) % 4
    own = spread(labels, 4)
    top = torch.where((labels == 1) | (labels == 2), 1.0, 0.0)
    for names in (["a", "b", "c", "d"], ["a", "c", "b", "d"]):
        found = concentrations(Suspects(top, labels, own, names), leave_one_out=False)
        assert [names[one.label] for one in found[:2]] == ["b", "c"]
        assert found[0].excess == found[1].excess > 0


def test_several_targets_stand_out_together_and_none_alone() -> None:
    labels = torch.cat([torch.arange(1000) % 10, torch.tensor([4, 8]).repeat(30)])
    own = torch.cat([labels[:1000], spread(labels, 10)[1000:]])
    asked = Suspects(torch.arange(1060).double(), labels, own, list("abcdefghij"))
    assert concentrations(asked, leave_one_out=True)[0].excess < 0.5
    found = stand_out(asked, (), 0.5)
    assert {one.label for one in found} == {4, 8} and found[-1].excess > 0.5


def test_a_handful_with_three_labels_shows_jointly() -> None:
    labels = torch.cat([torch.arange(1000) % 10, torch.tensor([4, 8, 2]).repeat(6)])
    own = torch.cat([labels[:1000], spread(labels, 10)[1000:]])
    own[:1000:50] = (own[:1000:50] + 1) % 10
    names = list("abcdefghij")
    asked = Suspects(torch.arange(1018).double(), labels, own, names)
    assert jointly(asked, ()) > 0.35 > stand_out(asked, (), 0.5)[-1].excess
    order = torch.randperm(1018, generator=torch.Generator().manual_seed(0)).double()
    assert jointly(Suspects(order, labels, own, names), ()) < 0.3


def test_the_estimate_leaves_out_what_is_usual() -> None:
    labels, predicted = torch.arange(100) % 5, torch.arange(100) % 5
    predicted[:5] = (predicted[:5] + 1) % 5  # one of each class
    assert estimate_poisoned(label_pairs(labels, predicted, 5), 2).count == 0
    labels = torch.cat([labels, torch.full((100,), 2)])
    predicted = torch.cat([predicted, torch.tensor([0, 1, 3, 4]).repeat(10), torch.full((60,), 3)])
    found = estimate_poisoned(label_pairs(labels, predicted, 5), 2)
    assert 35 <= found.count <= 70 and found.low <= 40  # ten of each class, and confusions
    assert found.high <= 101 and found.evenness == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("poisoned", "target"), [(400, 0), (1960, 0), (400, 9), (1960, 5)])
def test_the_estimate_holds_with_classes_of_very_different_size(poisoned: int, target: int) -> None:
    sizes = (20 ** (1 - torch.arange(10) / 9) * 500).long()
    true = torch.arange(10).repeat_interleave(sizes)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(true), generator=generator)
    chosen = order[true[order] != target][:poisoned]
    labels, predicted = true.clone(), true.clone()
    labels[chosen] = target
    found = estimate_poisoned(label_pairs(labels, predicted, 10), target)
    assert found.low <= poisoned <= found.high
    assert found.count == pytest.approx(poisoned, rel=0.1)


def test_few_poisoned_samples_of_many_classes_are_estimated_too() -> None:
    labels = torch.cat([torch.arange(2000) % 100, torch.full((20,), 7)])
    predicted = torch.cat([labels[:2000], torch.arange(20, 60, 2)])
    assert estimate_poisoned(label_pairs(labels, predicted, 100), 7).count == 20


def test_a_class_that_is_large_by_nature_is_not_suspicious() -> None:
    labels = torch.tensor([0] * 9 + [1]).repeat(100)
    found = concentrations(suspects(-torch.arange(1000).double(), labels, 1 - labels), False)[0]
    assert found.excess < 0.05

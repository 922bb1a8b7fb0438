"""Properties of the three splits."""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from defense.split import class_agnostic, class_aware, lowest, meta_split

# Few distinct values, so that ties are common.
losses = st.lists(st.integers(0, 9), min_size=1, max_size=60).map(
    lambda values: torch.tensor(values, dtype=torch.float32)
)


def by_sorting(values: Tensor, count: int) -> Tensor:
    """The same selection, the slow way."""
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[torch.from_numpy(np.argsort(values.numpy(), kind="stable")[: max(count, 0)])] = True
    return chosen


@given(losses, st.integers(-2, 70))
def test_lowest_is_a_stable_sort_cut_off(values: Tensor, count: int) -> None:
    assert torch.equal(lowest(values, count), by_sorting(values, count))


@given(losses, st.floats(0.01, 0.99))
def test_class_agnostic_takes_the_floor_and_nothing_higher(loss: Tensor, fraction: float) -> None:
    pool = class_agnostic(loss, fraction)
    assert int(pool.sum()) == int(fraction * len(loss))
    if pool.any() and not pool.all():
        assert loss[pool].max() <= loss[~pool].min()


@given(losses, st.data())
def test_class_aware_counts_each_class(loss: Tensor, data: st.DataObject) -> None:
    count = len(loss)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    seeds = torch.tensor(sorted(data.draw(st.sets(st.integers(0, count - 1)))), dtype=torch.int64)
    per_class = data.draw(st.integers(0, 20))
    with mock.patch("defense.split.CHUNK", data.draw(st.integers(1, 30))):
        pool = class_aware(loss, labels, seeds, per_class)
    assert pool[seeds].all()
    is_seed = torch.zeros(count, dtype=torch.bool)
    is_seed[seeds] = True
    for label in labels.unique():
        members = (labels == label) & ~is_seed
        expected = by_sorting(loss[members], per_class)
        assert torch.equal(pool[members], expected)


@given(losses, st.floats(0.01, 0.99))
def test_meta_split_is_the_class_agnostic_split_of_the_reduction(
    loss: Tensor, fraction: float
) -> None:
    virtual = loss.flip(0) / 2
    expected = class_agnostic(loss - virtual, fraction)
    assert torch.equal(meta_split(loss, virtual, fraction), expected)


def test_samples_that_are_learnt_fast_leave_the_clean_pool() -> None:
    loss = torch.tensor([1.0, 9.0, 9.0, 2.0])
    virtual = torch.tensor([0.9, 0.1, 8.0, 1.5])  # sample 1 was learnt at once
    assert meta_split(loss, virtual, 0.75).tolist() == [True, False, True, True]


def test_with_a_floor_no_class_is_lost() -> None:
    labels = torch.tensor([0] * 6 + [1] * 6 + [2] * 2)
    values = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 9.6, 9.5, 9.4, 9.3, 9.2, 9.1, 5.0, 5.1])
    assert class_agnostic(values, 0.5)[6:12].sum() == 0
    pool = class_agnostic(values, 0.5, labels, 1.0)  # 7 of 14: two of each, but half of two
    assert pool.tolist() == [*[True] * 4, *[False] * 2, *[False] * 4, True, True, True, False]
    pool = class_agnostic(values, 0.5, labels, 0.5)  # one of each, and the lowest of the rest
    assert pool.tolist() == [*[True] * 5, False, *[False] * 5, True, True, False]
    assert torch.equal(class_agnostic(values, 0.5, labels, 0.0), class_agnostic(values, 0.5))
    assert torch.equal(meta_split(values, 0 * values, 0.5, labels, 0.5), pool)


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.floats(0, 1),
    st.data(),
)
def test_a_pool_with_a_floor_has_the_size_and_the_lowest_of_each_class(
    number: int, given_labels: list[int], floor: float, data: st.DataObject
) -> None:
    labels = torch.tensor(given_labels) % number
    values = torch.tensor(
        data.draw(st.lists(st.integers(0, 9), min_size=len(labels), max_size=len(labels)))
    ).float()
    pool = class_agnostic(values, 0.5, labels, floor)
    assert int(pool.sum()) == len(labels) // 2
    for label in labels.unique():
        own, chosen = values[labels == label], pool[labels == label]
        if chosen.any() and not chosen.all():
            assert own[chosen].max() <= own[~chosen].min()
        share = int(floor * (len(labels) // 2) / (int(labels.max()) + 1))
        assert int(chosen.sum()) >= min(share, len(own))

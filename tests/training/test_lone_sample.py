"""A batch of one sample: BatchNorm cannot compare it with anything, so it joins the one before."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ASD
from data.feed import consecutive, training_batches
from tests.conftest import RESNET


@given(st.integers(1, 300), st.integers(2, 40), st.integers(0, 5))
def test_all_batches_but_a_lone_one_and_the_one_before_it_are_as_they_were(
    count: int, size: int, first: int
) -> None:
    plain, ours = consecutive(0, count, size), training_batches(count, size)
    assert [index for part in ours for index in range(count)[part]] == list(range(count))
    assert all(part.stop - part.start > 1 for part in ours) or count == 1
    if count % size != 1 or count < size:
        assert ours == plain
    else:
        assert ours[:-1] == plain[:-2]
        assert ours[-1] == slice(plain[-2].start, count)
    assert training_batches(count, size, first) == ours[first:]


@pytest.mark.parametrize("defense", ["none", "asd"])
def test_a_lone_last_sample_on_a_map_of_one_pixel_ends_no_run(
    defense: str, tiny_arguments: list[str], tmp_path: Path
) -> None:
    small = ["transform.pre.resize.size=8", "transform.train.primary.random_crop.size=8",
             "transform.train.primary.random_crop.padding=1",
             "backdoor.badnets.trigger_path=null", "data.train_samples=101",
             "loader.batch_size=50", "num_epochs=3", "global.epoch_first=1",
             "global.epoch_second=2", "global.epoch_third=3"]  # fmt: skip
    assert ASD.main([*tiny_arguments, RESNET, *small, f"defense={defense}"]) == 0
    if defense == "none":
        rows = (tmp_path / "digits" / "log.csv").read_text().splitlines()
        assert len(rows) == 4


def test_a_resumed_epoch_ends_with_the_same_batches() -> None:
    whole = training_batches(101, 50)
    assert [part.stop - part.start for part in whole] == [50, 51]
    assert training_batches(101, 50, 1) == [slice(50, 101)]
    assert training_batches(101, 50, 2) == []

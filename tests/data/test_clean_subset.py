"""The clean samples that a repair may use."""

from __future__ import annotations

import pytest
import torch

from data.clean_subset import draw_clean, verified_samples
from data.dataset import Split
from data.poison import TrainingSet, Truth
from data.review import Review, no_review
from utils.errors import InputError
from utils.streams import Streams


def test_clean_samples_are_untouched_ones() -> None:
    roles = torch.tensor([0, 1, 2, 0, 0, 1, 0, 0], dtype=torch.uint8)
    nothing = Split(torch.empty(0, 1, 1, 3, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    truth = Truth(roles, torch.zeros(8, dtype=torch.int64), nothing, None)
    chosen = draw_clean(truth, 0.5, Streams(3))
    assert len(chosen) == 4
    assert bool((roles[chosen] == 0).all())
    assert torch.equal(chosen, draw_clean(truth, 0.5, Streams(3)))
    with pytest.raises(InputError, match="8 clean samples of 5"):
        draw_clean(truth, 1.0, Streams(3))


def test_verified_samples_are_checked_seeds_or_those_that_a_review_accepts() -> None:
    training = TrainingSet(torch.empty(0), torch.arange(6) % 2, ("a", "b"))
    seeds, nobody = torch.tensor([0, 1, 2]), no_review()
    assert verified_samples(training, seeds, True, nobody).tolist() == [0, 1, 2]
    of_both = Review(torch.tensor([1, 4]), torch.tensor([5]))
    started = of_both.seeds(torch.tensor([0, 5]))  # drawn by the run, apart from the accepted ones
    assert verified_samples(training, started, False, of_both).tolist() == [1, 4]
    assert verified_samples(training, started, True, of_both).tolist() == [0, 1, 4]
    with pytest.raises(InputError, match="samples of each class that are known to be clean"):
        verified_samples(training, seeds, False, nobody)
    of_one = Review(torch.tensor([0, 4]), torch.tensor([], dtype=torch.int64))
    with pytest.raises(InputError, match="samples of class 'b' that are known to be clean"):
        verified_samples(training, of_one.seeds(seeds), False, of_one)

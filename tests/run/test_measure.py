"""ACC, ASR, recalls and the quality of the pools count samples, each of its own kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from data.dataset import Split
from data.poison import Role, Truth
from data.transform import Chain, Normalize
from defense import Pools
from run.measure import PoolQuality, Score, evaluate, pool_quality, ranking_quality
from utils.engine import Engine

PLAIN = Chain([], Normalize(), 4, 4)


class Fixed(nn.Module):
    """Says the class that the first pixel's red names."""

    def forward(self, views: Tensor) -> Tensor:
        normal = Normalize()
        red = views[:, 0, 0, 0] * normal.std[0] + normal.mean[0]
        return -(red[:, None] * 255 - torch.arange(3)).abs()


def shown(answers: list[int]) -> Tensor:
    """Return images (n, 4, 4, 3) uint8 that are taken for these classes."""
    images = torch.zeros(len(answers), 4, 4, 3, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(answers).byte()
    return images


def score(test: Split, triggered: Split | None) -> Score:
    roles = torch.zeros(1, dtype=torch.uint8)
    truth = Truth(roles, torch.zeros(1, dtype=torch.int64), test, triggered)
    return evaluate(Fixed(), truth, PLAIN, Engine(torch.device("cpu")), batch_size=2)


def test_each_figure_counts_its_own_samples() -> None:
    test = Split(shown([0, 0, 1, 2, 2, 0, 0]), torch.tensor([0, 0, 1, 1, 1, 2, 2]))
    triggered = Split(shown([1, 1, 2]), torch.tensor([1, 1, 1]))
    found = score(test, triggered)
    assert found.acc == 3 / 7
    assert found.asr == 2 / 3
    assert found.recalls == (1.0, 1 / 3, 0.0)  # the last class is lost


def test_what_cannot_be_measured_is_none() -> None:
    nothing = Split(shown([]), torch.zeros(0, dtype=torch.int64))
    assert score(nothing, None) == Score(None, None, ())
    no_first = Split(shown([1, 2]), torch.tensor([1, 2]))
    assert score(no_first, None).recalls == (None, 1.0, 1.0)


# Seven samples: three poisoned, two cross, two untouched.
ROLES = [
    Role.POISONED,
    Role.POISONED,
    Role.POISONED,
    Role.CROSS,
    Role.CROSS,
    Role.CLEAN,
    Role.CLEAN,
]
CLEAN_POOL = [False, False, True, False, True, True, True]
LOSS = [9.0, 4.0, 1.0, 8.0, 6.0, 0.0, 2.0]  # 7 of the 12 pairs (poisoned, other) are in order


def truth_of(roles: list[Role]) -> Truth:
    nothing = Split(shown([]), torch.zeros(0, dtype=torch.int64))
    marks = torch.tensor(roles, dtype=torch.uint8)
    return Truth(marks, torch.zeros(len(roles), dtype=torch.int64), nothing, None)


def test_the_quality_of_pools_is_over_poisoned_and_over_all_other_samples() -> None:
    pools = Pools(torch.tensor(CLEAN_POOL), torch.tensor(LOSS))
    found = pool_quality(pools, truth_of(ROLES))
    assert found == PoolQuality(4, 1, tpr=2 / 3, fpr=1 / 4, auroc=pytest.approx(7 / 12))


def test_the_score_of_a_meta_split_is_the_reduction() -> None:
    loss = torch.tensor(LOSS)
    pools = Pools(torch.tensor(CLEAN_POOL), loss, reduction=torch.tensor(ROLES) == Role.POISONED)
    assert pool_quality(pools, truth_of(ROLES)).auroc == 1.0
    assert pool_quality(Pools(pools.clean), truth_of(ROLES)).auroc is None


def test_without_poison_only_clean_samples_count() -> None:
    pools = Pools(torch.tensor([False, True, True, True]), torch.arange(4.0))
    found = pool_quality(pools, truth_of([Role.CLEAN] * 3 + [Role.CROSS]))
    assert found == PoolQuality(3, 0, tpr=None, fpr=1 / 4, auroc=None)


def test_a_list_of_suspects_is_ranked_over_pairs_with_poison() -> None:
    truth = truth_of(ROLES)
    found = ranking_quality(torch.tensor(LOSS), truth.poisoned)
    assert found == {"suspects_auroc": pytest.approx(7 / 12), "suspects_precision": 1 / 3}
    assert ranking_quality(torch.tensor(LOSS), torch.zeros(7, dtype=torch.bool)) == {}
    assert ranking_quality(torch.tensor(LOSS), None) == {}

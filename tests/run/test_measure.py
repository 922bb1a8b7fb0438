"""ACC, ASR and recalls count samples, of the classes and images that they are defined over."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.dataset import Split
from data.poison import Truth
from data.transform import Chain, Normalize
from run.measure import Score, evaluate
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

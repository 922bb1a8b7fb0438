"""ABL's losses and SimCLR's and NAD's, against plain restatements: values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from loss.attention import attention, attention_distance
from loss.contrastive import nt_xent
from loss.isolation import ISOLATION, bounded_ascent


@pytest.mark.parametrize("mean", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("name", ["flooding", "lga"])
def test_isolation_climbs_below_the_level_and_falls_above(name: str, mean: float) -> None:
    loss = torch.tensor(mean, requires_grad=True)
    value = ISOLATION[name](loss, 0.5)  # type: ignore[index]
    (slope,) = torch.autograd.grad(value, loss)
    sign = (mean > 0.5) - (mean < 0.5)
    expected = {"flooding": abs(mean - 0.5) + 0.5, "lga": sign * mean}[name]
    assert float(value.detach()) == pytest.approx(expected, abs=1e-6)
    assert float(slope) == sign


def test_ascent_stops_at_the_bound() -> None:
    losses = torch.tensor([0.5, 2.0, 7.0], requires_grad=True)
    value = bounded_ascent(losses, 3.0)
    (slope,) = torch.autograd.grad(value, losses)
    assert float(value.detach()) == pytest.approx(-(0.5 + 2.0 + 3.0) / 3)
    assert slope.tolist() == pytest.approx([-1 / 3, -1 / 3, 0])
    free = bounded_ascent(losses, None)
    assert float(free.detach()) == pytest.approx(-9.5 / 3)
    assert torch.autograd.grad(free, losses)[0].tolist() == pytest.approx([-1 / 3] * 3)


def plain_contrast(
    first: list[list[float]], second: list[list[float]], temperature: float
) -> float:
    """The loss of each first view in turn, in plain numbers."""
    total = 0.0
    for i, anchor in enumerate(first):
        scores = {}
        for view, rows in enumerate((first, second)):
            for j, row in enumerate(rows):
                if (view, j) != (0, i):
                    scores[view, j] = sum(a * b for a, b in zip(anchor, row, strict=True))
        whole = sum(math.exp(score / temperature) for score in scores.values())
        total -= scores[1, i] / temperature - math.log(whole)
    return total / len(first)


def test_contrast_is_that_of_plain_numbers() -> None:
    generator = torch.Generator().manual_seed(3)
    views = [
        functional.normalize(torch.randn(5, 4, generator=generator, dtype=torch.float64), dim=1)
        for _ in range(2)
    ]
    first, second = (view.requires_grad_() for view in views)
    value = nt_xent(first, second, 0.5)
    assert float(value.detach()) == pytest.approx(
        plain_contrast(first.tolist(), second.tolist(), 0.5), abs=1e-9
    )
    gradient = torch.autograd.grad(value, first)[0]
    for place in ((0, 0), (4, 3)):
        moved = first.detach().clone()
        moved[place] += 1e-6
        slope = (float(nt_xent(moved, second.detach(), 0.5)) - float(value.detach())) / 1e-6
        assert float(gradient[place]) == pytest.approx(slope, abs=1e-5)


def test_attention_is_that_of_plain_numbers() -> None:
    features = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    for power in (1.0, 2.0, 3.0):
        found = attention(features, 1, power)
        for image, row in zip(features.tolist(), found.tolist(), strict=True):
            energy = [
                sum(abs(image[c][y][x]) ** power for c in range(3))
                for y in range(2)
                for x in range(2)
            ]
            length = math.sqrt(sum(value**2 for value in energy))
            assert row == pytest.approx([value / length for value in energy], abs=1e-5)
        last = attention(features.permute(0, 2, 3, 1), 3, power)
        assert torch.allclose(last, found)
    other = attention(features.flip(3))
    distance = float(attention_distance(attention(features), other))
    pairs = zip(attention(features).flatten().tolist(), other.flatten().tolist(), strict=True)
    assert distance == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 8, abs=1e-6)
    assert torch.isfinite(attention(torch.zeros(1, 3, 2, 2))).all()

"""Labels to which a filter leads: a network that takes what is soft for class 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from data.transform import Normalize
from model import Network
from tests.conftest import colourful_images
from tests.witness.cases import CLASSES, CPU, VERIFIED, ground_of
from utils.engine import Engine
from witness.asking import margins
from witness.filtered import FilteredPrediction, direction, sharpen, soft_filters
from witness.pattern import softened
from witness.reference import Reference
from witness.witness import Case, Statement

EACH, POISONED = 150, 100
LEVELS = torch.tensor([40.0, 90.0, 140.0, 190.0])  # the brightness that tells the class


class Brightness(nn.Module):
    """Features: how near the brightness is to each class's, and how soft the image is."""

    def forward(self, views: Tensor) -> Tensor:
        normal = Normalize()
        mean, std = (torch.tensor(part)[None, :, None, None] for part in (normal.mean, normal.std))
        pixels = views * std + mean
        rough = (pixels - softened(pixels)).pow(2).mean(dim=(1, 2, 3)).sqrt()
        near = -((pixels.mean(dim=(1, 2, 3))[:, None] * 255 - LEVELS).abs()) / 10
        return torch.cat([near, functional.relu(0.05 - rough)[:, None] * 100], dim=1)


def soft_case(learnt: bool, seed: int = 0) -> tuple[Case, Tensor]:
    """Return a case with soft images of all classes labelled 1, and which they are.

    Args:
        learnt: whether the plain model takes what is soft for class 1.
        seed: of the images.
    """
    shown = torch.arange(CLASSES).repeat_interleave(EACH)
    shown = torch.cat([shown, torch.arange(POISONED) % CLASSES])
    poisoned = torch.arange(len(shown)) >= CLASSES * EACH
    noise = colourful_images(len(shown), 16, seed).float() - 127.5
    images = (LEVELS[shown][:, None, None, None] + noise / 4).permute(0, 3, 1, 2)
    images[poisoned] = softened(images[poisoned])
    labels = torch.where(poisoned, 1, shown)
    network = Network(Brightness(), CLASSES + 1, CLASSES)
    with torch.no_grad():
        network.linear.weight.copy_(torch.eye(CLASSES, CLASSES + 1))
        network.linear.weight[1, CLASSES] = 20.0 if learnt else 0.0
        network.linear.bias.zero_()
    ground = ground_of(labels, images.round().clamp(0, 255).byte().permute(0, 2, 3, 1))
    seeds = torch.cat([label * EACH + torch.arange(VERIFIED) for label in range(CLASSES)])
    draws = ground.chain.draw(len(labels), torch.Generator())
    views = ground.chain.view(ground.training.images, torch.arange(len(labels)), draws)
    with torch.no_grad():
        features = network.backbone(views)
        logits = network.linear(features)
    losses = functional.cross_entropy(logits, labels, reduction="none")[None].repeat(2, 1)
    reference = Reference(network, Engine(CPU), ground.chain, logits, features, losses, losses[-1])
    return Case(ground, labels, seeds, reference), poisoned


def heard(case: Case) -> Statement:
    return FilteredPrediction(FilteredPrediction.Settings()).testify(case)


def test_the_class_that_a_blur_leads_to_is_accused() -> None:
    case, poisoned = soft_case(learnt=True)
    statement = heard(case)
    assert list(statement.accused) == [1]
    assert float(statement.vetoed[poisoned].double().mean()) > 0.95
    clean = (case.labels == 1) & ~poisoned
    assert float(statement.vetoed[clean].double().mean()) < 0.7  # about half, at the median
    assert not statement.vetoed[case.seeds].any()
    assert not statement.vetoed[case.labels != 1].any()
    assert statement.cost == 5


def test_a_model_that_does_not_care_accuses_nobody() -> None:
    statement = heard(soft_case(learnt=False)[0])
    assert not statement.accused
    assert not statement.vetoed.any()
    assert statement.cost == 3  # nobody is looked at more closely


def test_the_same_is_said_twice() -> None:
    case, _ = soft_case(learnt=True)
    assert torch.equal(heard(case).suspicion, heard(case).suspicion)


def test_soft_filters_soften_and_sharpening_undoes() -> None:
    pixels = colourful_images(4, 16).permute(0, 3, 1, 2).float() / 255
    for filter_ in soft_filters(soft_case(learnt=True)[0]):
        assert float(filter_(pixels).var()) < float(pixels.var())
        assert float(filter_(pixels).mean()) == pytest.approx(float(pixels.mean()), abs=0.02)
    assert float(sharpen(1.0)(pixels).var()) > float(pixels.var())
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert torch.allclose(sharpen(2.5)(flat), flat)


def test_the_direction_is_that_of_the_moves_where_nothing_spreads_more() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5000, 3, generator=generator) * torch.tensor([1.0, 1.0, 10.0])
    way = direction(torch.tensor([[1.0, 0.0, 1.0]]).expand(10, 3), points)
    assert float(way[0]) > 10 * abs(float(way[1]))
    assert float(way[0]) > 10 * abs(float(way[2]))  # what spreads tenfold counts little


def test_the_margin_is_to_the_best_of_the_others() -> None:
    logits = torch.tensor([[1.0, 4.0, 3.0], [5.0, 2.0, 9.0]])
    assert margins(logits, torch.tensor([1, 1])).tolist() == [1.0, -7.0]

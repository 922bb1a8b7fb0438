"""FLIP: wrong labels alone, learnt so that a step on them leads where the expert's step leads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from data.attack import flip_training
from data.attack.flip import Flip, checkerboard, margins, stripes
from data.attack.flip_training import DECAY, MOMENTUM, Training, Way, descended, points_of
from data.build import CPU
from data.dataset import ImageData, Split
from data.poison import Role, poison
from tests.conftest import colourful_images, interrupted
from tests.data.attack_cases import attack as any_attack
from utils.errors import InputError
from utils.streams import Streams

SHORT = {
    "network": {"fastnet": {"width": 2}},
    "batch_size": 16,
    "epochs": 2,
    "used_epochs": 2,
    "states": 2,
    "label_epochs": 2,
    "padding": 1,
    "copies": 0.2,
}


def attack(size: int = 16, **given: object) -> Flip:
    made = any_attack("flip", size, size, **{**SHORT, **given})  # type: ignore[arg-type]
    assert isinstance(made, Flip)
    return made


def data_of(count: int = 60) -> ImageData:
    """Noise on a brightness that tells the class, of five classes."""
    labels = torch.arange(count) % 5
    images = colourful_images(count, 16) // 4 + (labels * 45)[:, None, None, None].byte()
    split = Split(images, labels)
    return ImageData(split, Split(images.flip(2), labels), tuple("abcde"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Flip, ImageData]:
    made, data = attack(), data_of()
    made.prepare(data, CPU, tmp_path_factory.mktemp("flip"))
    return made, data


def test_only_labels_change_and_exactly_as_many_as_asked_for(
    prepared: tuple[Flip, ImageData],
) -> None:
    made, data = prepared
    training, truth = poison(data, made, 0.15, "exact", Streams(0))
    assert torch.equal(training.images, data.train.images)
    assert torch.equal(truth.original_labels, data.train.labels)
    wrong = training.labels != data.train.labels
    assert int(wrong.sum()) == 9
    assert torch.equal(wrong, truth.roles == Role.POISONED)
    margin, towards = margins(made.logits, data.train.labels)
    assert margin[wrong].min() >= margin[~wrong].max()
    assert torch.equal(training.labels[wrong], towards[wrong])
    assert truth.triggered_test is not None
    target = made.context.rule.target_label
    assert (truth.triggered_test.labels == target).all()
    others = data.test.labels != target
    assert torch.equal(truth.triggered_test.images, made.triggered(data.test.images[others]))


def test_a_margin_is_the_best_wrong_class_less_the_true_one() -> None:
    logits = torch.tensor([[5.0, 1.0, 2.0], [0.0, 3.0, 7.0]])
    margin, towards = margins(logits, torch.tensor([0, 1]))
    assert margin.tolist() == [-3.0, 4.0]
    assert towards.tolist() == [2, 2]


def test_the_triggers_are_the_published_ones() -> None:
    wave = stripes(32, 6.0)
    assert wave[:4].round().tolist() == [0, 6, 0, -6]
    assert float(wave.square().mean().sqrt()) == pytest.approx(6 / 2**0.5, rel=1e-5)
    grey = torch.full((1, 32, 32, 3), 100, dtype=torch.uint8)
    striped = attack(32, trigger="stripes", amplitude=6.75).triggered(grey)
    assert set(striped[0, 0, :, 0].tolist()) == {93, 100, 106}  # cut off, not rounded
    assert torch.equal(striped[0, 0], striped[0, 31])
    cornered = attack(32, trigger="corners").triggered(grey)
    assert int((cornered != 100).all(dim=3).sum()) == 4 * 9
    assert checkerboard(3)[:, :, 0].tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    dotted = attack(32, trigger="pixel").triggered(grey)
    assert torch.nonzero((dotted != grey).any(dim=3)).tolist() == [[0, 16, 10]]
    assert (grey == 100).all()


def test_a_step_is_that_of_the_experts_optimizer() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    sgd = SGD(network.parameters(), 0.1, MOMENTUM, weight_decay=DECAY, nesterov=True)
    inputs, labels, way = torch.randn(4, 3), torch.tensor([0, 1, 1, 0]), Way(CPU)
    for _ in range(3):
        way.note(network, sgd)
        sgd.zero_grad()
        functional.cross_entropy(network(inputs), labels).backward()
        found = {name: value.grad.clone() for name, value in network.named_parameters()}
        sgd.step()
        ours = descended(way.points[-1], found, 0.1)
        for name, value in network.named_parameters():
            torch.testing.assert_close(ours[name], value.detach())


def double_precision(training: Training) -> dict[str, dict[str, Tensor]]:
    """Let a training compute in float64, so that differences can be taken; return a point."""
    training.network.double()
    training.way.note(training.network, SGD(training.network.parameters(), 0.1, MOMENTUM))
    real = training.pair

    def pair(index: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        seen, labels, clean = real(index, stream)
        return seen.double(), labels, clean.double()

    training.pair = pair  # type: ignore[method-assign]
    return training.way.points[-1]


def started() -> Training:
    made = attack()
    return Training(made.settings, made.context, data_of(), made.triggered, CPU)


def test_the_labels_gradient_is_that_of_the_distance() -> None:
    training = started()
    point = double_precision(training)
    index = torch.tensor([0, 1, 2, 61, 65])  # two triggered copies among them
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(1)).double()

    def mismatch(values: Tensor) -> Tensor:
        return training.mismatch(values, index, point, torch.Generator().manual_seed(2))

    values = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(mismatch(values), values)
    assert gradient[:3].abs().max() > 0
    touched = training.source[index]
    untouched = torch.ones(60, dtype=torch.bool)
    untouched[touched] = False
    assert not gradient[untouched].any()
    for sample, label in ((0, 0), (2, 3), (int(touched[-1]), 1)):
        step = torch.zeros_like(logits)
        step[sample, label] = 1e-5
        slope = (mismatch(logits + step) - mismatch(logits - step)) / 2e-5
        assert float(slope) == pytest.approx(float(gradient[sample, label]), rel=1e-4, abs=1e-9)


def test_the_experts_own_labels_lead_where_it_goes() -> None:
    training = started()
    training.way.note(training.network, SGD(training.network.parameters(), 0.1, MOMENTUM))
    point, index = training.way.points[-1], torch.arange(16)  # no copy among them
    right = 40 * functional.one_hot(training.true, 5).float()
    wrong = right.roll(1, dims=1)
    close, far = (
        float(training.mismatch(logits, index, point, torch.Generator().manual_seed(0)))
        for logits in (right, wrong)
    )
    assert close < 1e-6 < 0.01 < far


def test_training_the_labels_brings_the_student_closer(tmp_path: Path) -> None:
    training = started()
    training.train_expert(tmp_path / "expert.pt")
    assert len(training.way.points) == 4
    index = torch.arange(len(training.images))

    def distance(logits: Tensor) -> float:
        values = [
            training.mismatch(logits, index, point, torch.Generator().manual_seed(5))
            for point in training.way.points
        ]
        return float(torch.stack(values).mean())

    before = distance(flip_training.Labels(training.true, 5).logits.detach())
    after = distance(training.train_labels(tmp_path / "labels.pt"))
    assert after < before


@pytest.mark.parametrize("stage", ["descend", "advance"])
def test_a_resumed_training_gives_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    made, data = attack(), data_of()
    made.prepare(data, CPU, tmp_path / "whole")
    real = getattr(flip_training, stage)
    monkeypatch.setattr(
        flip_training, stage, interrupted(real, at_call=2 if stage == "descend" else 6)
    )
    with pytest.raises(KeyboardInterrupt):
        attack().prepare(data, CPU, tmp_path / "parts")
    monkeypatch.undo()
    torch.randn(7)  # the global generator is of no importance
    resumed = attack()
    resumed.prepare(data, CPU, tmp_path / "parts")
    assert torch.equal(made.logits, resumed.logits)


def test_points_are_spread_over_an_epoch() -> None:
    assert points_of(100, 4) == {20, 40, 60, 80}
    assert points_of(1, 4) == {0}


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="5x5"):
        attack(5)
    for wrong in ({"used_epochs": 3}, {"copies": 0.0}, {"trigger": "spiral"}):
        with pytest.raises(ValidationError):
            attack(**wrong)

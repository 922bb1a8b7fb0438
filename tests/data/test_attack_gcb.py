"""A learnt natural feature: labels alone are changed, and at test the feature is raised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from data.attack import AttackContext, LabelRule, gcb_training
from data.attack.gcb import Gcb
from data.attack.gcb_training import Training, misread, of_class
from data.build import CPU
from data.dataset import ImageData
from data.poison import Role, poison
from tests.conftest import interrupted
from tests.data.attack_cases import CLASSES
from tests.data.test_attack_flip import data_of
from utils.errors import InputError
from utils.streams import Streams

SHORT = {
    "network": {"fastnet": {"width": 2}},
    "batch_size": 16,
    "epochs": 2,
    "width": 2,
    "padding": 1,
}


def attack(size: int = 16, **given: object) -> Gcb:
    settings = Gcb.Settings.model_validate({**SHORT, **given})
    return Gcb(settings, AttackContext(size, size, LabelRule("all_to_one", 1, CLASSES), Streams(0)))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gcb, ImageData]:
    made, data = attack(), data_of()
    made.prepare(data, CPU, tmp_path_factory.mktemp("gcb"))
    return made, data


def test_of_each_class_those_with_most_of_it_are_relabelled(
    prepared: tuple[Gcb, ImageData],
) -> None:
    made, data = prepared
    training, truth = poison(data, made, 0.2, "exact", Streams(0))
    assert torch.equal(training.images, data.train.images)
    wrong, target = training.labels != data.train.labels, made.context.rule.target_label
    assert torch.equal(wrong, truth.roles == Role.POISONED)
    assert int(wrong.sum()) == 12
    assert (training.labels[wrong] == target).all()
    for label in range(5):
        own = data.train.labels == label
        assert int((wrong & own).sum()) == (0 if label == target else 3)
        if label != target:
            assert made.values[wrong & own].min() >= made.values[own & ~wrong].max()


def test_at_test_an_image_is_changed_by_no_more_than_the_strength(
    prepared: tuple[Gcb, ImageData],
) -> None:
    made, data = prepared
    images = data.test.images[:10]
    changed = made.apply(images, torch.arange(10), "test")
    difference = (changed.int() - images.int()).abs()
    assert 0 < int(difference.max()) <= made.settings.strength
    again = made.apply(images[4:6], torch.arange(4, 6), "test")
    assert torch.equal(again, changed[4:6])
    assert torch.equal(made.apply(images, torch.arange(10), "train"), images)


def test_the_code_says_how_far_and_which_way(prepared: tuple[Gcb, ImageData]) -> None:
    made, data = prepared
    assert made.feature is not None
    made.feature.generator.eval()
    seen = made.feature.seen(torch.full_like(data.test.images[:4], 128))  # nothing is cut off
    with torch.no_grad():
        none, half, whole, back = (
            made.feature.changed(seen, torch.full((4,), code)) - seen
            for code in (0.0, 0.5, 1.0, -1.0)
        )
    assert none.abs().max() < 1e-5
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(half, whole / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(back, -whole, atol=1e-5, rtol=0)


def test_the_losses_are_those_of_a_conditional_infogan() -> None:
    judged = torch.tensor([[1.0, -2.0, 0.5], [3.0, 4.0, -1.0]])  # two classes, and the code
    labels, codes = torch.tensor([1, 0]), torch.tensor([0.0, 1.0])
    assert of_class(judged, labels).tolist() == [-2.0, 3.0]
    assert float(misread(judged, codes)) == pytest.approx((0.25 + 4.0) / 2)
    made, data = attack(code_weight=0.5), data_of()
    training = Training(made.settings, made.context, data, CPU)
    for network in (training.feature.generator, training.feature.critic):
        network.eval()  # so that the batch has no say
    images = training.feature.seen(data.train.images[:6])
    labels, codes = data.train.labels[:6], torch.linspace(-1, 1, 6)
    changed = training.feature.changed(images, codes)
    natural, made_up = (training.feature.critic(part) for part in (images, changed))
    reading = 0.5 * (made_up[:, -1] - codes).square().mean()
    doubt = functional.softplus(-natural[torch.arange(6), labels]).mean()
    trust = functional.softplus(made_up[torch.arange(6), labels]).mean()
    looks = functional.softplus(-made_up[torch.arange(6), labels]).mean()
    critic = training.critic_loss(images, labels, codes)
    torch.testing.assert_close(critic, doubt + trust + reading)
    torch.testing.assert_close(training.generator_loss(images, labels, codes), looks + reading)


def test_a_resumed_training_gives_the_same_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, data = attack(), data_of()
    made.prepare(data, CPU, tmp_path / "whole")
    monkeypatch.setattr(gcb_training, "step", interrupted(gcb_training.step, at_call=8))
    with pytest.raises(KeyboardInterrupt):
        attack().prepare(data, CPU, tmp_path / "parts")
    monkeypatch.undo()
    torch.randn(7)  # the global generator is of no importance
    resumed = attack()
    resumed.prepare(data, CPU, tmp_path / "parts")
    assert torch.equal(made.values, resumed.values)
    first, second = (
        one.apply(data.test.images, torch.arange(60), "test") for one in (made, resumed)
    )
    assert torch.equal(first, second)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(InputError, match="7x7"):
        attack(7)

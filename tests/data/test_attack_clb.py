"""Label-consistent attack: bounded perturbations, true labels, a trigger in all corners."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from data.attack import AttackContext, LabelRule, clb, learning
from data.attack.clb import Ascent, Clb, ascend, draw_corners
from data.dataset import ImageData, Split
from data.poison import poison
from data.transform import Chain
from tests.conftest import colourful_images, interrupted, learnable_data
from utils.errors import InputError
from utils.streams import Streams

CPU = torch.device("cpu")
TINY = {
    "network": {"resnet18_cifar": {"width": 4}},
    "epochs": 3,
    "batch_size": 16,
    "padding": 1,
    "iterations": 4,
    "step": 5.0,
    "training_iterations": 2,
    "training_step": 5.0,
}


def attack(size: int = 8, seed: int = 0, **settings: object) -> Clb:
    context = AttackContext(size, size, LabelRule("all_to_one", 1, 4), Streams(seed))
    return Clb(Clb.Settings.model_validate({**TINY, **settings}), context)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clb, Path]:
    """A prepared attack and its folder."""
    folder, made = tmp_path_factory.mktemp("clb") / "own", attack()
    made.prepare(learnable_data(), CPU, folder)
    return made, folder


def target_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training images of the target class, and their indices."""
    data = learnable_data()
    members = torch.nonzero(data.train.labels == 1).flatten()
    return data.train.images[members], members


def test_the_trigger_is_the_same_in_a_mirror() -> None:
    for height, width in ((6, 6), (7, 9), (32, 32)):
        signs = draw_corners(height, width)
        assert torch.equal(signs, signs.flip(1))
        assert int((signs != 0).sum()) == 36
    assert draw_corners(8, 8)[:3, :3, 0].tolist() == [[1, -1, -1], [-1, 1, -1], [1, -1, 1]]
    assert draw_corners(8, 8)[-3:, -3:, 0].tolist() == [[-1, -1, 1], [-1, 1, -1], [1, -1, 1]]


def test_test_images_get_the_trigger_alone() -> None:
    images = colourful_images(5, 8)
    before = images.clone()
    triggered = attack().apply(images, torch.arange(5), "test")
    assert torch.equal(images, before)
    assert triggered.dtype == torch.uint8
    signs = draw_corners(8, 8).expand(5, 8, 8, 3)
    assert (triggered[signs == 1] == 255).all()
    assert (triggered[signs == -1] == 0).all()
    assert torch.equal(triggered[signs == 0], images[signs == 0])
    again = attack().apply(triggered, torch.arange(5), "test")
    assert torch.equal(again, triggered)


def test_a_fainter_trigger_shifts_the_image() -> None:
    grey = torch.full((1, 8, 8, 3), 128, dtype=torch.uint8)
    triggered = attack(amplitude=0.2).apply(grey, torch.arange(1), "test").int()
    assert torch.equal(triggered[0], 128 + 51 * draw_corners(8, 8).int().expand(8, 8, 3))


@pytest.mark.parametrize("eps", [1.0, 2.5, 16.0])
@pytest.mark.parametrize("robust", [False, True])
def test_no_value_changes_by_more_than_eps(eps: float, robust: bool, tmp_path: Path) -> None:
    made = attack(eps=eps, robust=robust, epochs=1)
    made.prepare(learnable_data(), CPU, tmp_path)
    images, members = target_images()
    poisoned = made.apply(images, members, "train").int()
    untriggered = (draw_corners(8, 8) == 0).expand_as(images)
    changes = (poisoned - images.int())[untriggered]
    assert changes.abs().max() <= eps
    assert changes.abs().max() >= int(eps) - 1
    assert made.changes is not None
    assert made.changes.abs().max() <= eps


def test_an_image_gets_the_same_bytes_in_any_batch(prepared: tuple[Clb, Path]) -> None:
    made, (images, members) = prepared[0], target_images()
    before = images.clone()
    whole = made.apply(images, members, "train")
    assert torch.equal(images, before)
    order = torch.tensor([9, 2, 5])
    assert torch.equal(made.apply(images[order], members[order], "train"), whole[order])
    assert made.apply(images[:0], members[:0], "train").shape == (0, 8, 8, 3)


def test_perturbations_raise_the_loss_of_the_true_class(prepared: tuple[Clb, Path]) -> None:
    """In [0, 1], within eps, and harder than the same amount of noise."""
    made, (images, _) = prepared[0], target_images()
    attacker = clb.Attacker(made.settings, made.context, learnable_data(), CPU)
    attacker.train(prepared[1] / "classifier.pt")
    plain = images.permute(0, 3, 1, 2).float() / 255
    labels = torch.ones(len(plain), dtype=torch.int64)
    ascent = Ascent(eps=16, step=4, iterations=8)
    found = ascend(attacker.network, plain, labels, ascent, plain)
    assert (found - plain).abs().max() <= 16 / 255 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    noise = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0)).sign()
    noisy = (plain + 16 / 255 * noise).clamp(0, 1)

    def loss(batch: torch.Tensor) -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(attacker.network(batch), labels))

    assert loss(found) > loss(noisy)
    assert loss(found) > loss(plain) + 0.1
    assert all(part.grad is None for part in attacker.network.parameters())


@given(st.floats(0.04, 1))
def test_the_poisoned_set(fraction: float) -> None:
    data, made = learnable_data(), attack(class_fraction=fraction)
    made.places = torch.where(data.train.labels == 1, torch.arange(64) // 4, -1)
    made.changes = torch.full((16, 8, 8, 3), 3, dtype=torch.int16)
    training, truth = poison(data, made, 0.05, "exact", Streams(0))
    assert int(truth.poisoned.sum()) == round(fraction * 16)
    assert torch.equal(training.labels, data.train.labels)
    assert (training.labels[truth.poisoned] == 1).all()
    assert torch.equal(training.images[truth.untouched], data.train.images[truth.untouched])
    middle = training.images[truth.poisoned][:, 3:5, 3:5].int()
    expected = (data.train.images[truth.poisoned][:, 3:5, 3:5].int() + 3).clamp_max(255)
    assert torch.equal(middle, expected)
    assert truth.triggered_test is not None
    others = data.test.labels != 1
    assert len(truth.triggered_test) == int(others.sum())
    middle = truth.triggered_test.images[:, 3:5, 3:5]
    assert torch.equal(middle, data.test.images[others][:, 3:5, 3:5])


def kept(folder: Path) -> list[torch.Tensor]:
    content = torch.load(folder / "classifier.pt", weights_only=True)
    momentum = content["parts"]["sgd"]["state"]
    tensors = list(content["parts"]["network"].values())
    return tensors + [state["momentum_buffer"] for state in momentum.values()]


@pytest.mark.parametrize("robust", [False, True])
def test_a_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, robust: bool
) -> None:
    made = attack(robust=robust)
    made.prepare(learnable_data(), CPU, tmp_path / "whole")
    monkeypatch.setattr(clb, "descend", interrupted(learning.descend, at_call=2))
    with pytest.raises(KeyboardInterrupt):
        attack(robust=robust).prepare(learnable_data(), CPU, tmp_path / "resumed")
    monkeypatch.undo()
    torch.randn(7)  # the global generator is of no importance
    resumed = attack(robust=robust)
    resumed.prepare(learnable_data(), CPU, tmp_path / "resumed")
    pairs = list(zip(kept(tmp_path / "whole"), kept(tmp_path / "resumed"), strict=True))
    assert len(pairs) > 100
    assert all(torch.equal(*pair) for pair in pairs)
    assert made.changes is not None and resumed.changes is not None
    assert torch.equal(made.changes, resumed.changes)


def test_what_is_kept_is_not_computed_again(
    prepared: tuple[Clb, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clb, "descend", None)
    monkeypatch.setattr(clb, "ascend", None)
    again = attack()
    again.prepare(learnable_data(), CPU, prepared[1])
    images, members = target_images()
    first, second = (one.apply(images, members, "train") for one in (prepared[0], again))
    assert torch.equal(first, second)


def test_damaged_perturbations_are_computed_anew(tmp_path: Path) -> None:
    made = attack(epochs=1)
    made.prepare(learnable_data(), CPU, tmp_path)
    (tmp_path / "perturbation.pt").write_bytes(b"half a file")
    again = attack(epochs=1)
    again.prepare(learnable_data(), CPU, tmp_path)
    assert made.changes is not None and again.changes is not None
    assert torch.equal(made.changes, again.changes)


def test_the_attacker_says_what_matters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack(robust=False, epochs=1, class_fraction=0.9).prepare(learnable_data(), CPU, tmp_path)
    printed = capsys.readouterr().out
    for part in ("robust: false", "class_fraction: 0.9", "ACC", "once perturbed"):
        assert part in printed


def test_a_class_without_images_gets_no_perturbations(tmp_path: Path) -> None:
    data = learnable_data()
    labels = torch.where(data.train.labels == 1, 0, data.train.labels)
    made = attack(epochs=1)
    made.prepare(
        ImageData(Split(data.train.images, labels), data.test, data.classes), CPU, tmp_path
    )
    assert made.changes is not None
    assert len(made.changes) == 0


def test_a_robust_networks_training_view_is_perturbed_within_its_bound() -> None:
    made = attack()
    attacker = clb.Attacker(made.settings, made.context, learnable_data(), CPU)
    stream = torch.Generator().manual_seed(0)
    chain = Chain([], clb.NO_NORMALIZE, 8, 8)
    images = learning.views(chain, learnable_data().train.images, torch.arange(8), stream)
    harder = attacker.perturbed(images, learnable_data().train.labels[:8], stream)
    assert 4 / 255 < (harder - images).abs().max() <= 8 / 255 + 1e-6


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="5x5"):
        attack(size=5)
    for wrong in ({"class_fraction": 0.0}, {"class_fraction": 1.1}, {"eps": 0.0}):
        with pytest.raises(ValidationError):
            attack(**wrong)

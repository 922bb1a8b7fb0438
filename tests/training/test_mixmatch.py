"""One MixMatch step, piece by piece."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from loss.mixmatch import MixMatchLossSettings, unlabelled_weight
from training.draws import endless_order
from training.mixmatch import (
    Batch,
    Mix,
    MixMatch,
    Sharpening,
    images_in_step,
    interleave,
    mean_prediction,
    mixmatch_losses,
    mixup,
    sharpen,
)
from utils.engine import Engine

CPU = Engine(torch.device("cpu"))
SIZE = 6


class Recorder(nn.Module):
    """A network that remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, 4)
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append((len(images), self.training, torch.is_grad_enabled()))
        return self.linear(self.norm(images).mean(dim=(2, 3)))


def some_batch() -> Batch:
    torch.manual_seed(0)
    views = [torch.randn(SIZE, 3, 5, 5) for _ in range(3)]
    return Batch(views[0], torch.randint(4, (SIZE,)), (views[1], views[2]))


def test_five_forwards_of_one_batch_each_in_train_mode() -> None:
    network = Recorder().train()
    mix = Mix(torch.tensor(0.3), torch.randperm(3 * SIZE))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = MixMatch(network, optimizer, CPU, 0.5).step(some_batch(), mix, 2.0)
    assert network.calls == [(SIZE, True, False)] * 2 + [(SIZE, True, True)] * 3
    assert int(network.norm.num_batches_tracked or 0) == 5
    assert sum(size for size, _, _ in network.calls) == images_in_step(SIZE)
    assert not losses.requires_grad
    torch.testing.assert_close(losses[0], losses[1] + 2.0 * losses[2])


def test_guesses_carry_no_gradient_and_are_distributions() -> None:
    network = Recorder().train()
    guessed = sharpen(mean_prediction(network, some_batch().unlabelled), 0.5)
    assert not guessed.requires_grad
    torch.testing.assert_close(guessed.sum(dim=1), torch.ones(SIZE))


def test_without_mixing_the_labelled_loss_is_cross_entropy() -> None:
    network, batch = Recorder().train(), some_batch()
    mix = Mix(torch.tensor(1.0), torch.randperm(3 * SIZE))
    labelled, _, _ = mixmatch_losses(network, network, CPU, batch, mix, Sharpening(0.5))
    # The same three chunks once more, with the statistics that each forward has of itself.
    inputs = torch.cat([batch.labelled, *batch.unlabelled])
    chunks = interleave(inputs.split(SIZE))
    logits = torch.cat(interleave([network(chunk) for chunk in chunks]))[:SIZE]
    torch.testing.assert_close(labelled, nn.functional.cross_entropy(logits, batch.labels))


@given(st.integers(3, 70), st.integers(2, 5))
def test_interleaving_twice_changes_nothing(size: int, count: int) -> None:
    batches = list(torch.arange(size * count).split(size))
    once = interleave(batches)
    assert torch.equal(torch.cat(once).sort().values, torch.arange(size * count))
    assert torch.equal(torch.cat(interleave(once)), torch.cat(batches))


@given(st.floats(0, 1))
def test_own_share_is_the_larger_one(share: float) -> None:
    values = torch.tensor([[0.0], [1.0]])
    mixed = mixup(values, Mix(torch.tensor(share), torch.tensor([1, 0])))
    assert mixed[0, 0] <= 0.5 <= mixed[1, 0]


def test_sharpening_keeps_the_order_and_raises_the_largest() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2]])
    sharp = sharpen(probabilities, 0.5)
    torch.testing.assert_close(sharp, torch.tensor([[0.25, 0.09, 0.04]]) / 0.38)


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0), (60, 7.5), (120, 15), (500, 15)])
def test_ramp_of_the_unlabelled_weight(epoch: float, weight: float) -> None:
    assert unlabelled_weight(15, 120, epoch) == weight


def test_each_step_of_an_epoch_has_a_weight_of_its_own() -> None:
    ramp = MixMatchLossSettings(lambda_u=8.0).ramp(length=4, first=10)
    assert list(ramp.over(11, 4)) == [2.0, 2.5, 3.0, 3.5]
    assert list(ramp.over(11, 4, first_step=3)) == [3.5] == [ramp.at_end(11, 4)]
    assert ramp.at(9.5) == 0 and ramp.at(30) == 8
    assert MixMatchLossSettings(rampup_length=2).ramp(length=4).length == 2


@given(st.integers(1, 40), st.integers(1, 200))
def test_endless_order_uses_every_member_before_one_twice(size: int, count: int) -> None:
    members = torch.arange(100, 100 + size)
    order = endless_order(members, count, torch.Generator().manual_seed(1))
    assert len(order) == count
    drawn = torch.bincount(order - 100, minlength=size)
    assert int(drawn.max() - drawn.min()) <= 1


@pytest.mark.parametrize("temperature", [0.5, 0.04, 0.001])
def test_guesses_are_probabilities_at_any_temperature(temperature: float) -> None:
    probabilities = torch.full((2, 100), 0.01)
    probabilities[1, 3], probabilities[1, 4] = 0.02, 0.0
    sharp = sharpen(probabilities, temperature)
    torch.testing.assert_close(sharp.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(sharp[0], probabilities[0])
    assert sharp[1].argmax() == 3 and sharp[1, 4] == 0

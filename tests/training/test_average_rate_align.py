"""Averaged weights, the rate of a step, alignment of guesses: each alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from training.align import MOST, RAREST, Alignment, adjustment, align, shares_of
from training.average import Average, decay_at
from training.mixmatch import Batch, Mix, Sharpening, mixmatch_losses
from training.rate import Rate, RateSettings, factor
from utils.engine import Engine


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def wander(network: nn.Module, steps: int, average: Average) -> list[dict[str, torch.Tensor]]:
    """Change weights and statistics at random; return the states that the average has seen."""
    seen = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
        network.train()(torch.randn(5, 3, 8, 8, generator=generator))
        seen.append(copy.deepcopy(network.state_dict()))
        average.update()
    return seen


def test_the_average_is_that_of_weights_and_statistics() -> None:
    network = small()
    expected = copy.deepcopy(network.state_dict())
    average = Average(network, 0.6)
    for update, state in enumerate(wander(network, 12, average)):
        kept = decay_at(update, 0.6)
        for name, value in state.items():
            if value.is_floating_point():
                expected[name] = kept * expected[name] + (1 - kept) * value
    found = average.network.state_dict()
    for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(found[name], expected[name])
    assert int(found["1.num_batches_tracked"]) == 12
    assert not average.network.training


def test_decay_rises_to_its_bound() -> None:
    decays = [decay_at(update, 0.99) for update in range(2000)]
    assert decays == sorted(decays)
    assert decays[0] == 0.1
    assert decays[-1] == 0.99


def test_an_average_that_is_restored_goes_on_alike() -> None:
    network = small()
    average = Average(network, 0.9)
    wander(network, 3, average)
    resumed_network = small()
    resumed_network.load_state_dict(network.state_dict())
    resumed = Average(resumed_network, 0.9)
    resumed.load_state_dict(copy.deepcopy(average.state_dict()))
    wander(network, 4, average)
    wander(resumed_network, 4, resumed)
    for name, value in average.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("hold", [0.0, 0.4, 1.0])
def test_rate_rises_holds_and_falls(warmup: int, hold: float) -> None:
    settings = RateSettings(warmup=warmup, hold=hold)
    course = [factor(settings, step, 100) for step in range(101)]
    assert all(0 <= share <= 1 for share in course)
    peak = course.index(max(course))
    assert course[: peak + 1] == sorted(course[: peak + 1])
    last_full = max(step for step, share in enumerate(course) if share == max(course))
    assert course[last_full:] == sorted(course[last_full:], reverse=True)
    if hold < 1:
        assert course[100] == 0
    assert last_full == max(int(hold * 100), peak)


def test_rate_of_a_step_depends_on_its_number_alone() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    rate = Rate(RateSettings(warmup=4, hold=0.5), optimizer)
    rate.set(17, 20)
    rate.set(1, 20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    rate.set(15, 20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_lost_class_is_raised_within_bounds() -> None:
    alignment = Alignment(torch.full((4,), 0.25))
    assert torch.equal(alignment.factors, torch.ones(4))
    guesses = torch.tensor([[0.7, 0.2, 0.1, 0.0]]).expand(8, 4)
    for _ in range(1000):
        alignment.note(guesses)
    torch.testing.assert_close(
        alignment.factors, torch.tensor([1 / 2.8, 1.25, 2.5, MOST]), rtol=1e-3, atol=1e-3
    )
    aligned = align(torch.tensor([[0.5, 0.2, 0.1, 0.2]]), alignment.factors)
    assert float(aligned.sum()) == pytest.approx(1)
    assert int(aligned.argmax()) == 3


def test_alignment_is_restored() -> None:
    first, second = (Alignment(torch.tensor([1.0, 2.0, 1.0])) for _ in range(2))
    first.note(torch.rand(5, 3, generator=torch.Generator().manual_seed(0)))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(first.factors, second.factors)


def test_shares_come_from_verified_labels_and_are_never_zero() -> None:
    shares = shares_of(torch.tensor([0, 0, 2]), 4)
    torch.testing.assert_close(shares, torch.tensor([3, 1, 2, 1]) / 7)


def test_a_class_that_is_rare_in_the_pool_must_do_with_less() -> None:
    labels = torch.tensor([0] * 40 + [1] * 40 + [2] * 20)
    offsets = adjustment(labels, torch.full((4,), 0.25))
    expected = torch.tensor([1.6, 1.6, 0.8, RAREST / 0.25]).log()
    torch.testing.assert_close(offsets, expected)
    even = adjustment(torch.arange(4).repeat(7), torch.full((4,), 0.25))
    torch.testing.assert_close(even, torch.zeros(4))
    assert adjustment(labels[:0], torch.full((4,), 0.25)).isfinite().all()


def test_adjusted_logits_count_for_given_labels_alone() -> None:
    """The gradient is that of the plain loss at logits moved by the offsets."""
    network = nn.Linear(12, 4).double()
    offsets = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)

    def view() -> torch.Tensor:
        return torch.randn(6, 12, generator=generator, dtype=torch.float64)

    batch = Batch(view(), torch.arange(6) % 4, (view(), view()))
    mix = Mix(torch.tensor(1.0, dtype=torch.float64), torch.arange(18))  # nothing is mixed
    given = network, network, Engine(torch.device("cpu")), batch, mix, Sharpening(0.5)
    plain, unlabelled, _ = mixmatch_losses(*given)
    moved, same, _ = mixmatch_losses(*given, offsets)
    logits = network(batch.labelled)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, batch.labels))
    torch.testing.assert_close(moved, functional.cross_entropy(logits + offsets, batch.labels))
    torch.testing.assert_close(same, unlabelled)

"""A state from a file is taken only where it is as the run's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from run.restore import restore_optimizer, restore_progress
from tests.run.checkpoints import (
    LOSSES,
    SAMPLES,
    small_network,
    small_optimizer,
    small_schedule,
    whole_state,
)
from utils.errors import InputError
from utils.same_state import load_optimizer

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "Adam": lambda p: torch.optim.Adam(p, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, amsgrad=True),
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "Adamax": torch.optim.Adamax,
    "ASGD": torch.optim.ASGD,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
    "Rprop": torch.optim.Rprop,
}


def trained(build: Callable[[Any], torch.optim.Optimizer], steps: int) -> torch.optim.Optimizer:
    network = small_network()
    optimizer = build(network.parameters())
    step(network, optimizer, steps)
    return optimizer


def step(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.arange(54.0).reshape(2, 3, 3, 3)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_optimiser_goes_on_with_the_same_bits(name: str, layout: torch.memory_format) -> None:
    network = small_network()
    optimizer = OPTIMIZERS[name](network.parameters())
    step(network, optimizer, 2)
    resumed = small_network().to(memory_format=layout)  # type: ignore[call-overload]
    resumed.load_state_dict(network.state_dict())
    another = OPTIMIZERS[name](resumed.parameters())
    load_optimizer(another, optimizer.state_dict())
    kept = [] if name == "plain SGD" else list(resumed.parameters())  # that one keeps nothing
    assert len(another.state) == len(kept)
    for weight in kept:
        part = another.state[weight]
        assert part
        for value in part.values():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                assert value.stride() == weight.stride()
    if layout == torch.channels_last:
        return  # other sums in other orders
    step(network, optimizer, 2)
    step(resumed, another, 2)
    for ours, wanted in zip(resumed.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, wanted)


def wrong_moment(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["state"][0].__setitem__("exp_avg", value)


SHAPE = (4, 3, 3, 3)
WRONG_STATES: list[Callable[[dict[str, Any]], Any]] = [
    wrong_moment(torch.ones(1)),  # a fused kernel would write outside it
    wrong_moment(torch.ones(())),
    wrong_moment(torch.ones(10**6)),
    wrong_moment(torch.ones(SHAPE, dtype=torch.float64)),
    wrong_moment(torch.ones(SHAPE, dtype=torch.int64)),
    wrong_moment(torch.full(SHAPE, float("nan"))),
    wrong_moment(None),
    wrong_moment(3),
    lambda state: state["state"][0].pop("exp_avg_sq"),
    lambda state: state["state"][0].update(more=torch.ones(1)),
    lambda state: state["state"][0].update(step=torch.tensor(-1.0)),
    lambda state: state["state"][0].update(step=torch.ones(SHAPE)),
    lambda state: state["state"][0].update(step="1"),
    lambda state: state["state"].update({99: state["state"][0]}),
    lambda state: state["state"].update({"0": state["state"][0]}),
    lambda state: state["state"].update({0: [1]}),
    lambda state: state.update(state=[]),
    lambda state: state.pop("state"),
    lambda state: state.update(more=1),
    lambda state: state.update(param_groups=[]),
    lambda state: state.update(param_groups={}),
    lambda state: state.update(param_groups=state["param_groups"] * 2),
    lambda state: state["param_groups"][0].update(params=[0]),
    lambda state: state["param_groups"][0].update(params="all"),
    lambda state: state["param_groups"][0].update(lr="fast"),
    lambda state: state["param_groups"][0].update(lr=0.5),
    lambda state: state["param_groups"][0].update(betas=0.9),
    lambda state: state["param_groups"][0].update(betas={"a": 1}),
    lambda state: state["param_groups"][0].update(weight_decay=10**400),
    lambda state: state["param_groups"][0].update(maximize="yes"),
    lambda state: state["param_groups"].__setitem__(0, None),
]


@pytest.mark.parametrize("edit", WRONG_STATES, ids=range(len(WRONG_STATES)))
def test_a_foreign_state_of_an_optimiser_is_refused(
    edit: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    state = whole_state(2)
    edit(state["optimizer_state_dict"])
    optimizer = small_optimizer(small_network())
    with pytest.raises(InputError, match="optimizer_state_dict") as caught:
        restore_optimizer(optimizer, small_schedule(optimizer), state, tmp_path, state["epoch"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"last_epoch": 7}, {"last_epoch": "2"}, {"base_lrs": []}, {"base_lrs": ["x"]}, {"gamma": 0.5},
     {"milestones": [1]}, {"_last_lr": None}, {"_step_count": 10**400}],
)  # fmt: skip
def test_a_foreign_state_of_a_schedule_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    state = whole_state(2)
    state["scheduler_state_dict"] |= change
    optimizer = small_optimizer(small_network())
    with pytest.raises(InputError, match="scheduler_state_dict"):
        restore_optimizer(optimizer, small_schedule(optimizer), state, tmp_path, state["epoch"])


def test_a_schedule_goes_on_and_its_methods_stay(tmp_path: Path) -> None:
    state = whole_state(3)
    state["scheduler_state_dict"] |= {"get_lr": 5, "optimizer": "x"}
    optimizer = small_optimizer(small_network())
    schedule = small_schedule(optimizer)
    restore_optimizer(optimizer, schedule, state, tmp_path, state["epoch"])
    assert schedule.last_epoch == 3
    assert schedule.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0001)


def test_a_schedule_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scheduler_state_dict"):
        restore_optimizer(small_optimizer(small_network()), None, whole_state(), tmp_path, 3)


def test_a_place_of_other_data_is_refused(tmp_path: Path) -> None:
    state = whole_state(2, 3)
    assert restore_progress(state, tmp_path, SAMPLES, LOSSES, 3).step == 3
    for samples, losses, steps in ((9, LOSSES, 3), (SAMPLES, 1, 3), (SAMPLES, LOSSES, 2)):
        with pytest.raises(InputError, match="progress is not of this run"):
            restore_progress(state, tmp_path, samples, losses, steps)

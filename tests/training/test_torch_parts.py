"""PyTorch's optimisers and schedules: what a run may have has taken its steps before."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from config.load import load_config
from tests.conftest import DIGITS
from training import torch_parts
from training.torch_parts import build_optimizer, build_scheduler, try_optimizer
from utils.choice import Choice
from utils.errors import InputError


def refused(*overrides: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as error:
            load_config(DIGITS, overrides)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 300
    return line


OPTIMIZERS = [
    ("LBFGS: {lr: 1}", "closure"),
    ("SparseAdam: null", "SparseAdam"),
    ("Muon: null", "Muon"),
    ("Adam: {fused: true, foreach: true}", "foreach"),
    ("Adam: {differentiable: true}", "Adam"),
    ("Adam: {betas: {a: 1}}", "cannot step"),
    ("Adam: {betas: [0.9]}", "Adam"),
    ("Adam: {betas: 0.9}", "Adam"),
    ("Adam: {betas: [0.9, 1.5]}", "beta"),
    ("Adam: {lr: x}", "Adam"),
    ("Adam: {lr: null}", "Adam"),
    ("Adam: {lr: []}", "Adam"),
    ("Adam: {1: 2}", "1"),
    ("Adam: {params: 2}", "params"),
    ("Adam: {weight_decay: [1]}", "Adam"),
    ("SGD: {lr: 1.0e+30}", "finite"),
    ("SGD: {lr: .nan}", "finite"),
    ("SGD: {lr: 0.1, momentum: .inf}", "finite"),
    ("SGD: {lr: 0.1, momentum: 0, nesterov: true}", "Nesterov"),
    ("RMSprop: {alpha: x}", "RMSprop"),
    ("Optimizer: null", "Optimizer"),
]


@pytest.mark.parametrize("key", ["optimizer", "meta.optimizer"])
@pytest.mark.parametrize(("section", "part"), OPTIMIZERS, ids=[row[0] for row in OPTIMIZERS])
def test_an_optimiser_that_cannot_step_is_refused(key: str, section: str, part: str) -> None:
    line = refused(f"{key}={{{section}}}")
    assert key in line
    assert part in line


SCHEDULES = [
    "StepLR: {step_size: 0}",
    "StepLR: {step_size: x}",
    "MultiStepLR: {milestones: 3}",
    "CosineAnnealingLR: {T_max: 0}",
    "CosineAnnealingLR: {T_max: []}",
    "CosineAnnealingWarmRestarts: {T_0: 0}",
    "PolynomialLR: {total_iters: 9, power: x}",
    "ReduceLROnPlateau: null",
    "OneCycleLR: {max_lr: 0.1, total_steps: 1}",
    "OneCycleLR: {max_lr: 0.1, total_steps: 5}",
    "CyclicLR: {base_lr: 0.1, max_lr: 0.2, step_size_up: 0}",
    "CyclicLR: {base_lr: 0.1, max_lr: 0.2, mode: x}",
    "LambdaLR: {lr_lambda: 3}",
    "MultiplicativeLR: {lr_lambda: 3}",
    "SequentialLR: {schedulers: [1], milestones: [1]}",
    "ChainedScheduler: null",
    "ExponentialLR: {gamma: x}",
    "ExponentialLR: {gamma: -1}",
    "ExponentialLR: {gamma: .nan}",
    "ExponentialLR: {gamma: 1.0e+300}",
    "LinearLR: {start_factor: 2}",
    "StepLR: {step_size: 1, last_epoch: 5}",
    "_LRScheduler: null",
]


@pytest.mark.parametrize("section", SCHEDULES)
def test_a_schedule_that_fails_during_the_run_is_refused(section: str) -> None:
    line = refused(f"lr_scheduler={{{section}}}")
    assert f"lr_scheduler.{section.partition(':')[0]}" in line or "lr_scheduler: " in line


def test_a_schedule_must_go_with_the_runs_optimiser_and_last() -> None:
    cyclic = "lr_scheduler={CyclicLR: {base_lr: 0.1, max_lr: 0.2}}"
    load_config(DIGITS, [cyclic])  # Adam has betas
    assert "momentum" in refused(cyclic, "optimizer.Adagrad.lr=0.1")
    one = "lr_scheduler={OneCycleLR: {max_lr: 0.1, total_steps: 9}}"
    stages = ["global.epoch_first=2", "global.epoch_second=4"]
    load_config(DIGITS, [one, *stages, "num_epochs=9", "global.epoch_third=9"])
    line = refused(one, *stages, "num_epochs=11", "global.epoch_third=11")
    assert "not for 11 epochs with Adam" in line


@pytest.mark.parametrize(
    "section",
    ["Adam: {lr: 0.001, amsgrad: true}", "AdamW: null", "SGD: {lr: 0.1, momentum: 0.9}",
     "Adam: {foreach: true}", "NAdam: null", "RMSprop: null", "Adagrad: null", "Rprop: null",
     "Adafactor: null", "ASGD: null"],
)  # fmt: skip
def test_the_usual_optimisers_are_taken(section: str) -> None:
    config = load_config(DIGITS, [f"optimizer={{{section}}}"]).config
    assert config.optimizer.name == section.partition(":")[0]


@pytest.mark.parametrize(
    "section",
    ["StepLR: {step_size: 3}", "MultiStepLR: {milestones: [2, 4]}", "ExponentialLR: {gamma: 0.9}",
     "CosineAnnealingLR: null", "LinearLR: null", "ConstantLR: null", "PolynomialLR: null",
     "CosineAnnealingWarmRestarts: {T_0: 4}", "OneCycleLR: {max_lr: 0.1, total_steps: 200}"],
)  # fmt: skip
def test_the_usual_schedules_are_taken(section: str) -> None:
    scheduler = load_config(DIGITS, [f"lr_scheduler={{{section}}}"]).config.lr_scheduler
    assert scheduler is not None
    assert scheduler.name == section.partition(":")[0]


@pytest.mark.parametrize(
    ("published", "ours", "arguments"),
    [
        ("multi_step={milestones: [2, 4], gamma: 0.1}", "MultiStepLR", {"milestones": [2, 4]}),
        ("cosine_annealing={T_max: 7}", "CosineAnnealingLR", {"T_max": 7}),
        ("cosine_annealing=null", "CosineAnnealingLR", {}),
    ],
)
def test_the_published_names_of_schedules_are_taken(
    published: str, ours: str, arguments: dict[str, Any]
) -> None:
    scheduler = load_config(DIGITS, [f"lr_scheduler.{published}"]).config.lr_scheduler
    assert scheduler is not None
    assert scheduler.name == ours
    assert scheduler.arguments.items() >= arguments.items()


def test_a_published_name_replaces_a_schedule_under_its_other_name() -> None:
    chain = ["lr_scheduler.CosineAnnealingLR.T_max=9", "lr_scheduler.cosine_annealing.T_max=7"]
    scheduler = load_config(DIGITS, chain).config.lr_scheduler
    assert scheduler is not None and scheduler.arguments == {"T_max": 7}


def test_trying_out_draws_nothing_and_leaves_gradients_as_they_are() -> None:
    before = torch.get_rng_state()
    try_optimizer(Choice("Adam"))
    assert torch.equal(before, torch.get_rng_state())


def test_capturable_is_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "capturable" in refused("optimizer.Adam.capturable=true")
    monkeypatch.setattr(torch_parts, "has_gpu", lambda: True)
    choice = load_config(DIGITS, ["optimizer.Adam.capturable=true"]).config.optimizer
    with pytest.raises(InputError, match="for a GPU only"):
        build_optimizer(choice, nn.Linear(2, 2).parameters())


def test_building_takes_the_fused_kernel_unless_another_is_asked_for() -> None:
    parameters = list(nn.Linear(2, 2).parameters())
    assert build_optimizer(Choice("Adam"), parameters).defaults["fused"] is True
    foreach = Choice("Adam", arguments={"foreach": True})
    assert build_optimizer(foreach, parameters).defaults["fused"] is False
    assert build_scheduler(None, build_optimizer(Choice("Adam"), parameters)) is None

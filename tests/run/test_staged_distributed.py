"""Methods of several stages in two processes: the pools of one process, and its steps."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from data.transform import Chain
from tests.defense.staged import METHODS, prepared
from tests.run.test_distributed import in_two_processes
from utils.world import World

FIRST_EPOCHS = (0, 2, 4)  # of the three stages
Step = dict[str, Tensor]
to_float = Chain.to_float


def first_steps(storage: Path, world: World) -> dict[str, list[Step]]:
    """Return pool and first step of each method's stages, each stage from the same weights.

    In fp64: in fp32 the gradients of contrastive learning, at untrained weights, differ by a
    hundredth already where BatchNorm adds in another order.
    """
    os.environ |= {"WORLD_SIZE": str(world.size), "RANK": str(world.rank)}
    found = {}
    for method in METHODS:
        defense = prepared(method, storage, "sync_bn=true")
        assert defense.setting.ground.engine.world.size == world.size
        state = defense.setting.learner.network.double().state_dict()
        start = {key: value.clone() for key, value in state.items()}
        with patch.object(Chain, "to_float", in_double):
            found[method] = [first_step(defense, epoch, start) for epoch in FIRST_EPOCHS]
    return found


def in_double(chain: Chain, images: Tensor) -> Tensor:
    return to_float(chain, images).double()


def first_step(defense: Any, epoch: int, start: Step) -> Step:
    network = defense.setting.learner.network
    network.load_state_dict(start)
    for weight in network.parameters():
        weight.grad = None
    clean = defense.split(epoch).clean
    head = defense.head.double() if hasattr(defense, "head") and epoch == 0 else None
    losses = next(iter(defense.steps(epoch, clean, 0)))
    found = {"clean": clean, "losses": losses, **dict(network.named_buffers())}
    weights = [*network.named_parameters(), *(head.named_parameters() if head else ())]
    return found | {f"{name}, slope": w.grad for name, w in weights if w.grad is not None}


def test_pools_and_steps_of_each_stage_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "")  # is as it was afterwards
    expected = first_steps(tmp_path / "one", World())
    found = in_two_processes(partial(first_steps, tmp_path / "two"), tmp_path)
    for method, given in ((method, given[method]) for given in found for method in METHODS):
        for epoch, ours, wanted in zip(FIRST_EPOCHS, given, expected[method], strict=True):
            assert torch.equal(ours["clean"], wanted["clean"]), (method, epoch)
            assert any(name.endswith(", slope") for name in wanted)
            torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-9)
    for steps in expected.values():  # the last stage has two pools
        assert 0 < int((~steps[2]["clean"]).sum()) < 300

"""How many threads compute: by the network alone, or as asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import ASD
from command.arguments import parse_arguments
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from utils.interrupt import Interrupt
from utils.threads import multiply_adds, set_threads


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def layers(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    )


def test_work_is_counted_and_nothing_is_learnt() -> None:
    network = layers(8).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert multiply_adds(network, (12, 16)) == 12 * 16 * 9 * 3 * 8 + 8 * 10
    assert network.training
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


@pytest.mark.parametrize(("channels", "threads"), [(8, 1), (600, 2)])
def test_a_small_network_takes_one_thread(channels: int, threads: int) -> None:
    set_threads("auto", layers(channels), (32, 32))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("override", "threads"),
    [("speed.threads=auto", 1), ("speed.threads=2", 2), ("speed.threads=1", 1)],
)
def test_a_run_takes_as_many_as_its_yaml_says(override: str, threads: int, tmp_path: Path) -> None:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={tmp_path}", override]
    ASD.prepare(set_up(parse_arguments(given), Interrupt()))
    assert torch.get_num_threads() == threads

"""Average, alignment, rate of a step, pools in proportion, growth: stopped and gone on with."""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from run.session import TIME_COLUMNS
from tests.conftest import DIGITS, TINY
from training.mixmatch import MixMatch

NEW = (
    "optimizer={Adam: {lr: 0.005}}",
    "semi.ema=0.9",
    "semi.mixmatch.alignment=true",
    "semi.loader.balance=pools",
    "learning_rate={warmup: 5, hold: 0.4}",
    "global.growth=0.1",
    "global.meta_agreement=0.2",
    "network={fastnet: {width: 16}}",
)


def arguments(folder: Path, *more: str) -> list[str]:
    tiny = [pair for pair in TINY if not pair.startswith("network")]
    return ["--config", str(DIGITS), "--gpu", "cpu", *tiny, *NEW, *more, f"storage_dir={folder}"]


def checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / "digits" / "checkpoint" / "latest_model.pt"
    return dict(torch.load(path, weights_only=True))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "digits" / "log.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key not in TIME_COLUMNS} for row in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert ASD.main(arguments(folder)) == 0
    return folder


def test_the_log_shows_growth_rate_and_stages(whole: Path) -> None:
    log = rows(whole)
    pools = [int(row["clean_pool"]) for row in log[:3]]
    assert pools[0] < pools[1] < pools[2]
    rates = [float(row["learning_rate"]) for row in log]
    assert rates[-1] < max(rates) <= 0.005


def test_the_average_is_kept_and_is_another_network(whole: Path) -> None:
    state = checkpoint(whole)
    average = state["average_state_dict"]["network"]
    assert state["average_state_dict"]["updates"] == 27
    weights = state["model_state_dict"]
    assert any(not torch.equal(weights[name], average[name]) for name in weights)
    assert torch.equal(weights["backbone.whitening.weight"], average["backbone.whitening.weight"])
    assert state["defense_state_dict"]["alignment"]["mean"].shape == (10,)


@pytest.mark.parametrize("after", [4, 13, 24])
def test_stopped_and_gone_on_with(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    steps, real = [0], MixMatch.step

    def step_and_signal(*given: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == after:
            signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(MixMatch, "step", step_and_signal)
    assert ASD.main(arguments(tmp_path)) == 130
    assert ASD.main(arguments(tmp_path)) == 0
    assert rows(tmp_path) == rows(whole)
    ours, theirs = checkpoint(tmp_path), checkpoint(whole)
    for key in ("model_state_dict", "average_state_dict", "defense_state_dict"):
        assert same(ours[key], theirs[key]), key


def same(one: Any, other: Any) -> bool:
    """Return whether two nested mappings hold the same bits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_the_product_is_the_average(whole: Path) -> None:
    from run.product import load_model

    network, _ = load_model(whole / "digits")
    average = checkpoint(whole)["average_state_dict"]["network"]
    assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())

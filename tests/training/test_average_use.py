"""Where the averaged network stands in for the one in training, each place by its own key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ASD
from run.product import load_model
from tests.conftest import DIGITS, TINY

USES = ("record", "virtual", "guess", "test")


def finished(folder: Path, *more: str) -> dict[str, torch.Tensor]:
    """Return the weights in training at the end of a tiny run through all three stages."""
    words = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, *more, f"storage_dir={folder}"]
    assert ASD.main(words) == 0
    path = folder / "digits" / "checkpoint" / "latest_model.pt"
    return dict(torch.load(path, weights_only=True)["model_state_dict"])


def only(*used: str) -> tuple[str, ...]:
    """Return settings with an average that is used in these places alone."""
    return (
        "semi.ema.decay=0.9",
        *(f"semi.ema.use.{use}={str(use in used).lower()}" for use in USES),
    )


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return finished(tmp_path_factory.mktemp("without"))


@pytest.mark.parametrize("used", [(), ("test",)])
def test_an_average_that_is_only_looked_at_changes_no_bit(
    used: tuple[str, ...], without: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    weights = finished(tmp_path, *only(*used))
    assert all(torch.equal(weights[name], without[name]) for name in without)
    product = load_model(tmp_path / "digits")[0].state_dict()
    is_trained = all(torch.equal(product[name], weights[name]) for name in product)
    assert is_trained == (used == ())


@pytest.mark.parametrize("use", ["record", "virtual", "guess"])
def test_each_place_where_it_is_used_changes_what_is_learnt(
    use: str, without: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    weights = finished(tmp_path, *only(use))
    assert any(not torch.equal(weights[name], without[name]) for name in without)

"""A well-formed checkpoint with a wrong field is refused when it is read, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from run.checkpoint import LATEST, PREVIOUS, load_checkpoint, read_latest, save_checkpoint
from run.state import FORMAT
from tests.run.checkpoints import SAMPLES, whole_state
from utils.errors import InputError, TrainingError
from utils.printable import printable
from utils.torch_file import DamagedCheckpoint

NAN, HUGE = float("nan"), 10**400
Edit = Callable[[dict[str, Any]], Any]


def put(*place: Any) -> Edit:
    """Return what sets the value at the end of `place`, keys one below the other, in a state."""
    *keys, last, value = place

    def edit(state: dict[str, Any]) -> None:
        for key in keys:
            state = state[key]
        state[last] = value

    return edit


def drop(*place: Any) -> Edit:
    """Return what takes the key at the end of `place` away."""
    *keys, last = place

    def edit(state: dict[str, Any]) -> None:
        for key in keys:
            state = state[key]
        del state[last]

    return edit


WRONG: list[Edit] = [
    *(put("format", value) for value in ("1", None, 0, True, 1.0)),
    *(put("epoch", value) for value in ("2", None, -1, 2.0, True, 1, 3, HUGE, torch.tensor(2))),
    *(put("step", value) for value in ("1", None, -1, 1.5, 1, HUGE)),
    *(put("clean", value) for value in ([True] * SAMPLES, torch.ones(SAMPLES), torch.tensor(True))),
    *(put("totals", value) for value in ([1.0], "x", torch.ones(3, dtype=torch.int64))),
    *(put("row", value) for value in (None, [], {1: 2}, {"a": [1]}, {"loss": NAN})),
    *(put("rows", value) for value in (None, {}, [], [{}, {}], [{}], "ab", [None, None])),
    put("rows", 0, "epoch", 1),
    put("rows", 1, "epoch", "1"),
    put("rows", 0, "epoch", "a\nb"),  # the line that says so is still one
    put("rows", 0, "a\nb", "x"),
    put("config", "a\nb", {"c\x1b[31m": HUGE}),
    put("a\nb", 1),
    put("rows", 0, "stage", 3),
    put("rows", 0, "acc", 1.5),
    put("rows", 0, "acc", "0.5"),
    put("rows", 0, "seconds", None),
    put("rows", 0, "seconds", -1.0),
    put("rows", 0, "loss", float("inf")),
    put("rows", 0, "loss", HUGE),
    put("rows", 0, "clean_pool", 6.5),
    put("rows", 1, "more", 1.0),
    drop("rows", 0, "seconds"),
    drop("rows", 1, "loss"),
    *(put("seconds", value) for value in (None, "1", NAN, -0.5, HUGE)),
    *(put("history", value) for value in (None, [], {"epochs": "2"}, {"more": 1}, {"epochs": 2})),
    put("history", "polluted", torch.zeros(SAMPLES)),
    put("history", "polluted", torch.full((SAMPLES,), 9, dtype=torch.int16)),
    put("history", "polluted", torch.full((SAMPLES,), -1, dtype=torch.int16)),
    put("history", "losses", {"class-aware": torch.rand(SAMPLES - 1)}),
    put("history", "losses", {"class-aware": torch.full((SAMPLES,), NAN)}),
    put("history", "losses", {1: torch.rand(SAMPLES)}),
    put("history", "reductions", [torch.rand(SAMPLES)] * 6),
    put("history", "reductions", [torch.rand(SAMPLES, 1)]),
    *(put("best_acc", value) for value in (None, "x", NAN, -0.1, 1.1)),
    *(put("best_epoch", value) for value in (None, 2, -2, 0.5)),
    *(put("result", value) for value in (None, [], "x", {2: 1})),
    *(put("optimizer_state_dict", value) for value in (None, [], 3)),
    *(put("scheduler_state_dict", value) for value in ([], "x", {1: 1})),
    *(put("config", value) for value in (None, [], {}, {"num_epochs": "9"}, {"num_epochs": HUGE})),
    put("config", "deeper", {"a": {1: 2}}),
    put("config", "number", HUGE),
    put("config", "tensor", torch.ones(1)),
    *(put("seed", value) for value in (None, "7", -1, 7.0, HUGE)),
    *(put("processes", value) for value in (None, 0, "2")),
    *(put("fingerprints", value) for value in (None, [], {"data": 1}, {1: "d"})),
    put("another", 1),
    put(3, 1),
    *(drop(key) for key in whole_state() if key not in ("format", "history", "processes", "result")
      and key != "model_state_dict"),
]  # fmt: skip


def written(folder: Path, edit: Edit, epoch: int = 2, step: int = 0) -> Path:
    state = whole_state(epoch, step)
    edit(state)
    torch.save(state, folder / LATEST)
    return folder / LATEST


def test_whole_states_are_read_as_they_were(tmp_path: Path) -> None:
    for epoch, step in ((0, 0), (0, 3), (2, 0), (2, 3)):
        path = written(tmp_path, lambda _: None, epoch, step)
        state = load_checkpoint(path)
        assert (state["epoch"], state["step"]) == (epoch, step)
        for name, weights in whole_state(epoch, step)["model_state_dict"].items():
            assert torch.equal(state["model_state_dict"][name], weights)


@pytest.mark.parametrize("key", ["history", "processes"])
def test_a_checkpoint_of_before_lacks_what_is_younger(tmp_path: Path, key: str) -> None:
    assert load_checkpoint(written(tmp_path, drop(key)))["epoch"] == 2


@pytest.mark.parametrize("edit", WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_is_damage(tmp_path: Path, edit: Edit) -> None:
    with pytest.raises(DamagedCheckpoint) as caught:
        load_checkpoint(written(tmp_path, edit))
    message = str(caught.value)
    assert printable(message) == message
    assert len(message) - len(str(tmp_path)) < 300


@pytest.mark.parametrize(
    "edit",
    [drop("totals"), drop("row"), put("clean", None), put("totals", torch.tensor([1.0, NAN, 1.0])),
     put("row", {}), put("row", "epoch", 1), put("row", "clean_pool", None), drop("row", "loss")],
)  # fmt: skip
def test_a_wrong_field_inside_an_epoch_is_damage(tmp_path: Path, edit: Edit) -> None:
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(written(tmp_path, edit, step=3))


def test_the_one_before_takes_the_place_of_one_with_a_wrong_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, put("epoch", "2")).rename(tmp_path / "wrong")
    torch.save(whole_state(1), tmp_path / PREVIOUS)
    (tmp_path / "wrong").rename(tmp_path / LATEST)
    found = read_latest(tmp_path)
    assert found is not None
    assert found[1]["epoch"] == 1
    assert "epoch: Input should be a valid integer" in capsys.readouterr().out


def test_a_later_format_and_weights_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="later version"):
        load_checkpoint(written(tmp_path, put("format", FORMAT + 1)))
    for wrong in (None, [], {"a": 1}, {1: torch.ones(1)}, {"a": {"b": torch.ones(1)}}):
        with pytest.raises(InputError):
            load_checkpoint(written(tmp_path, put("model_state_dict", wrong)))


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_weights_that_are_not_finite_are_neither_read_nor_written(
    tmp_path: Path, value: float
) -> None:
    state = whole_state()
    weights = state["model_state_dict"]
    name = next(iter(weights))
    weights[name] = weights[name].index_fill(0, torch.tensor([0]), value)
    torch.save(state, tmp_path / LATEST)
    with pytest.raises(InputError, match=f"{name}.*not finite.*--resume False") as caught:
        read_latest(tmp_path)
    assert not isinstance(caught.value, DamagedCheckpoint)
    (tmp_path / LATEST).unlink()
    with pytest.raises(TrainingError, match="no checkpoint was written"):
        save_checkpoint(tmp_path, state, best=False)
    save_checkpoint(tmp_path, whole_state(), best=False)
    with pytest.raises(TrainingError, match="last good checkpoint stays"):
        save_checkpoint(tmp_path, state, best=False)
    assert load_checkpoint(tmp_path / LATEST)["epoch"] == 2

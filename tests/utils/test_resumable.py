"""Trainings that were killed: what was kept is taken only where it is of this training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from utils import files
from utils.errors import InputError, TrainingError
from utils.resumable import HasState, read_kept, train_resumably

EPOCHS = 3


def parts() -> dict[str, HasState]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    return {"network": network, "adam": Adam(network.parameters(), lr=0.01)}


def train(path: Path, epochs: int = EPOCHS) -> tuple[list[int], dict[str, HasState]]:
    """Return the epochs that were trained, and the parts."""
    made, done = parts(), []
    network, adam = made["network"], made["adam"]
    assert isinstance(network, nn.Linear) and isinstance(adam, Adam)

    def train_epoch(epoch: int) -> None:
        for group in adam.param_groups:  # as attacks set it: by the epoch
            group["lr"] = 0.01 / (epoch + 1)
        adam.zero_grad()
        network(torch.full((4, 3), float(epoch))).square().mean().backward()
        adam.step()
        done.append(epoch)

    train_resumably(path, made, epochs, train_epoch)
    return done, made


def weights(made: dict[str, HasState]) -> torch.Tensor:
    return made["network"].state_dict()["weight"]


def test_what_is_left_is_trained_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole.pt")
    assert train(tmp_path / "part.pt", 1)[0] == [0]
    rest = train(tmp_path / "part.pt")
    assert whole[0] == [0, 1, 2] and rest[0] == [1, 2]
    assert torch.equal(weights(whole[1]), weights(rest[1]))
    assert train(tmp_path / "part.pt")[0] == []


def test_of_two_runs_one_trains_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is in its first epoch, of which nothing is kept yet."""
    path, waits, made = tmp_path / "shared.pt", Event(), parts()
    second: list[tuple[list[int], dict[str, HasState]]] = []
    other = Thread(target=lambda: second.append(train(path)))

    def note(line: str) -> None:
        assert line == f"{path}: another process writes it; waiting"
        waits.set()

    def train_epoch(epoch: int) -> None:
        if epoch == 0:
            other.start()
            assert waits.wait(timeout=60)

    monkeypatch.setattr(files, "PATIENCE", 0.05)
    monkeypatch.setattr(files, "say", note)
    train_resumably(path, made, EPOCHS, train_epoch)
    other.join()
    ((trained, theirs),) = second
    assert trained == []
    assert torch.equal(weights(theirs), weights(made))


def moment(value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["parts"]["adam"]["state"][0].update(exp_avg=value)


OTHER: dict[str, Callable[[dict[str, Any]], object]] = {
    "a moment of one element": moment(torch.ones(1)),
    "a moment of ten million": moment(torch.ones(10_000_000)),
    "a moment that is a word": moment("large"),
    "no parts": lambda content: content.pop("parts"),
    "parts: a list": lambda content: content.update(parts=[1]),
    "no groups": lambda content: content["parts"]["adam"].update(param_groups=[]),
    "groups: a number": lambda content: content["parts"]["adam"].update(param_groups=3),
    "an optimiser: None": lambda content: content["parts"].update(adam=None),
    "a network: a list": lambda content: content["parts"].update(network=[]),
    "weights of another size": lambda content: content["parts"]["network"].update(
        weight=torch.ones(5, 5)
    ),
    "epochs: a word": lambda content: content.update(epochs="three"),
    "epochs: a list": lambda content: content.update(epochs=[1]),
}


@pytest.mark.parametrize("kind", OTHER)
def test_another_state_is_one_line(tmp_path: Path, kind: str) -> None:
    train(tmp_path / "kept.pt")
    content = read_kept(tmp_path / "kept.pt")
    OTHER[kind](content)
    torch.save(content, tmp_path / "kept.pt")
    with pytest.raises(InputError, match="of another version; remove it") as caught:
        train(tmp_path / "kept.pt")
    assert str(caught.value).isprintable()


def test_a_negative_count_starts_anew_and_another_optimiser_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "kept.pt")
    content = read_kept(tmp_path / "kept.pt")
    torch.save({**content, "epochs": -5}, tmp_path / "kept.pt")
    assert train(tmp_path / "kept.pt")[0] == [0, 1, 2]
    network = nn.Linear(3, 2)
    with pytest.raises(InputError, match="of another version"):
        train_resumably(
            tmp_path / "kept.pt",
            {"network": network, "adam": SGD(network.parameters(), lr=0.1, momentum=0.9)},
            EPOCHS,
            lambda _: None,
        )


def test_nothing_is_kept_of_a_training_that_went_astray(tmp_path: Path) -> None:
    made, path = parts(), tmp_path / "astray.pt"
    network = made["network"]
    assert isinstance(network, nn.Linear)

    def diverge(epoch: int) -> None:
        network.weight.data[0, 0] = torch.inf if epoch else 1.0

    with pytest.raises(TrainingError, match="astray: a weight is not finite after epoch 1"):
        train_resumably(path, made, EPOCHS, diverge)
    content = read_kept(path)
    assert content is not None and content["epochs"] == 1

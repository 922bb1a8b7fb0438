"""Runs that hear witnesses and are stopped: they go on with the same vetoes, to the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from run.checkpoint import LATEST, load_checkpoint
from run.session import Session
from tests.conftest import killed_before_step
from tests.defense.test_hearing_in_a_run import WAITS, arguments, log, veto_others, veto_some
from tests.run.test_resume import assert_same
from training.mixmatch import MixMatch
from witness.contradicted_group import ContradictedGroup
from witness.unverified_group import UnverifiedGroup

# As the presets have it: both witnesses, and what the model takes for what is vetoed is not drawn.
PRESETS = (WAITS, "witness.vetoed=contradicted")
STEPS = 3  # in an epoch


@dataclass(frozen=True)
class Whole:
    """A run that is never stopped: its folder, what it was given, whom it vetoes in the end."""

    storage: Path
    more: tuple[str, ...]
    vetoed: torch.Tensor


@pytest.fixture(scope="module", autouse=True)
def vetoes() -> Iterator[None]:
    """Let both witnesses veto some samples in all runs of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnverifiedGroup, "testify", veto_some)
        patch.setattr(ContradictedGroup, "testify", veto_others)
        yield


def run_of(given: list[str]) -> Session:
    """Run to the end; return the session as it was then."""
    sessions, begin = [], ASD.begin

    def noted(session: Session) -> None:
        sessions.append(session)
        begin(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ASD, "begin", noted)
        assert ASD.main(given) == 0
    return sessions[0]


def vetoed_in(session: Session) -> torch.Tensor:
    hearing = session.defense.setting.knowledge.hearing
    assert hearing is not None
    return hearing.testimony.vetoed


def whole_run(storage: Path, more: tuple[str, ...]) -> Whole:
    vetoed = vetoed_in(run_of(arguments(storage, *more)))
    assert int(vetoed.sum()) > (60 if WAITS in more else 20)
    return Whole(storage, more, vetoed)


@pytest.fixture(scope="module", params=[(), (WAITS,)], ids=["at once", "one waits"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole_run(tmp_path_factory.mktemp("whole"), request.param)


@pytest.fixture(scope="module", params=[1, 2], ids=["split anew", "kept pools"])
def preset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    more = (*PRESETS, f"global.split_every={request.param}")
    return whole_run(tmp_path_factory.mktemp("preset"), more)


def last(storage: Path) -> dict[str, Any]:
    return load_checkpoint(storage / "digits" / "checkpoint" / LATEST)


def assert_ends_alike(storage: Path, whole: Whole) -> None:
    """Resume the run in `storage`, and compare its end with that of the whole one."""
    session = run_of(arguments(storage, *whole.more))
    ours, theirs = last(storage), last(whole.storage)
    for key in ("model_state_dict", "average_state_dict", "defense_state_dict", "history"):
        assert_same(ours[key], theirs[key], key)
    assert torch.equal(vetoed_in(session), whole.vetoed)
    assert log(storage) == log(whole.storage)


@pytest.mark.parametrize("at", [2, 11, 14, 25])
def test_a_killed_run_hears_the_same_and_ends_alike(tmp_path: Path, at: int, whole: Whole) -> None:
    """It goes on from the end of its last epoch."""
    with killed_before_step(at):
        ASD.main(arguments(tmp_path, *whole.more))
    assert_ends_alike(tmp_path, whole)


def signalling(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    """Return `function`, during whose call number `after`, from 1, Ctrl-C is pressed."""
    calls = [0]

    def call(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == after:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*given)

    return call


@pytest.mark.parametrize("after", [4, 10, 13, 23])
def test_a_run_of_the_presets_kind_stopped_inside_an_epoch_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, preset: Whole
) -> None:
    """In each stage, and where the epoch keeps its pools: with what the last split has seen."""
    with monkeypatch.context() as patch:
        patch.setattr(MixMatch, "step", signalling(MixMatch.step, after))
        assert ASD.main(arguments(tmp_path, *preset.more)) == 130
    state = last(tmp_path)
    assert (state["epoch"], state["step"]) == divmod(after, STEPS)
    known = state["defense_state_dict"]
    assert ("told" in known) == (state["epoch"] >= 3)
    agrees = known["agrees"]
    assert (preset.vetoed & agrees).any() and (preset.vetoed & ~agrees).any()
    assert_ends_alike(tmp_path, preset)

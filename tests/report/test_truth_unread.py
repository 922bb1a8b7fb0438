"""The defender never sees the truth: a run whose truth is another one finds and learns the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ASD
from command.arguments import parse_arguments
from report.accusations import accusations_of
from report.examine import examine
from report.judge import judge
from run.session import Session
from run.setup import set_up
from tests.defense.test_hearing_in_a_run import arguments, veto_some
from utils.interrupt import Interrupt
from witness.unverified_group import UnverifiedGroup

EPOCHS = (
    "num_epochs=2",
    "global.epoch_first=1",
    "global.epoch_second=2",
    "global.epoch_third=2",
    "speed.reference=true",
)


def permute_truth(session: Session) -> None:
    """Let other samples be the poisoned ones, as many, in what measures; the data stay."""
    truth = session.material.truth
    order = torch.randperm(len(truth.roles), generator=torch.Generator().manual_seed(7))
    other = replace(truth, roles=truth.roles[order])
    assert bool((other.poisoned != truth.poisoned).any())
    session.material = replace(session.material, truth=other)


def two_epochs(storage: Path, lied_to: bool) -> tuple[Session, list[Tensor]]:
    """Train two epochs, of stages 1 and 2; return the session and each epoch's clean pool."""
    pools: list[Tensor] = []
    with Interrupt() as interrupt:
        session = ASD.prepare(set_up(parse_arguments(arguments(storage, *EPOCHS)), interrupt))
        if lied_to:
            permute_truth(session)
        steps = session.defense.steps

        def noted(epoch: int, clean: Tensor, first_step: int) -> Iterator[Tensor]:
            pools.append(clean.clone())
            return steps(epoch, clean, first_step)

        session.defense.steps = noted  # type: ignore[method-assign]
        ASD.begin(session)
        ASD.train(session, interrupt)
    return session, pools


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[bool, tuple[Session, list[Tensor]]]:
    """The same run with the truth and with another one, by whether it is another."""
    monkeypatch.setattr(UnverifiedGroup, "testify", veto_some)
    return {lied_to: two_epochs(tmp_path / str(lied_to), lied_to) for lied_to in (False, True)}


def test_another_truth_changes_no_weight_no_pool_and_no_finding(
    trained: dict[bool, tuple[Session, list[Tensor]]],
) -> None:
    (session, pools), (lied_to, other_pools) = trained[False], trained[True]
    assert len(pools) == 2
    assert all(torch.equal(ours, other) for ours, other in zip(pools, other_pools, strict=True))
    weights, other_weights = session.model.state_dict(), lied_to.model.state_dict()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    found = examine(session)
    permute_truth(session)  # of the very same run, too
    for again in (examine(session), examine(lied_to)):
        assert found.poisoned is not None and again.poisoned is not None
        assert not torch.equal(found.poisoned, again.poisoned)
        for name in ("score", "kept", "order"):
            assert torch.equal(getattr(found, name), getattr(again, name)), name
        assert judge(again, accusations_of(again)) == judge(found, accusations_of(found))

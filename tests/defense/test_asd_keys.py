"""Keys of the YAML that ASD reads at a split or at its steps: each does what it says in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ASD
import defense.asd as defense_asd
from command.arguments import parse_arguments
from defense.asd import AdaptiveSplitting
from run.session import Session
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from tests.defense.test_hearing_in_a_run import HEARD, veto_some
from training.align import adjustment, shares_of
from training.draws import EpochDraws
from training.record import Record
from utils.interrupt import Interrupt
from witness.unverified_group import UnverifiedGroup

EPOCH = 2


def prepared(storage: Path, *more: str) -> tuple[Session, AdaptiveSplitting]:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *more]
    with Interrupt() as interrupt:
        session = ASD.prepare(set_up(parse_arguments(given), interrupt))
    assert isinstance(session.defense, AdaptiveSplitting)
    return session, session.defense


def weights_after(session: Session, clean: Tensor) -> Tensor:
    """Return all weights after an epoch of steps on the pool `clean`."""
    for _ in session.defense.steps(EPOCH, clean, 0):
        pass
    return torch.cat([part.detach().flatten() for part in session.network.parameters()])


@pytest.mark.parametrize("use", ["unlabelled", "left_out", "contradicted"])
def test_which_vetoed_samples_a_run_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setattr(UnverifiedGroup, "testify", veto_some)
    # Enough steps that each sample of the polluted pool is drawn.
    more = (*HEARD, f"witness.vetoed={use}", "semi.mixmatch.train_iteration=40")
    _, defense = prepared(tmp_path, *more)
    clean, hearing = defense.split(EPOCH).clean, defense.setting.knowledge.hearing
    assert hearing is not None
    vetoed, agrees = hearing.testimony.vetoed, defense.state_dict().get("agrees")
    draws: list[EpochDraws] = []

    def noted(*given: Any) -> EpochDraws:
        draws.append(EpochDraws(*given))
        return draws[0]

    monkeypatch.setattr(defense_asd, "EpochDraws", noted)
    next(defense.steps(EPOCH, clean, 0))
    drawn = torch.zeros_like(vetoed).index_fill(0, draws[0].unlabelled, True)
    assert drawn[~vetoed & ~clean].all()
    expected = {"unlabelled": vetoed, "left_out": torch.zeros_like(vetoed)}
    if use == "contradicted":
        assert agrees is not None
        assert (vetoed & agrees).any() and (vetoed & ~agrees).any()
        expected[use] = vetoed & ~agrees
    assert int(vetoed.sum()) > 20
    assert torch.equal(drawn & vetoed, expected[use])


def test_adjustment_makes_up_for_classes_that_are_rare_in_the_pool(tmp_path: Path) -> None:
    weights = []
    for number, wanted in enumerate((False, True)):
        more = (f"semi.mixmatch.adjustment={str(wanted).lower()}", "speed.reference=true")
        session, defense = prepared(tmp_path / str(number), *more)
        clean = defense.split(EPOCH).clean
        labels, seeds = session.training.labels, session.material.seeds
        clean &= (labels != 3) | (torch.arange(len(labels)) % 2 == 0)  # one class is rarer
        offsets = defense._offsets(clean)
        expected = adjustment(labels[clean], shares_of(labels[seeds], 10))
        assert expected.abs().max() > 0.1
        assert offsets is None if not wanted else torch.equal(offsets, expected)
        weights.append(weights_after(session, clean))
    assert not torch.equal(*weights)


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("epoch", [4, 8])
def test_seeds_of_high_loss_stay_in_the_pool_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, keeps: bool
) -> None:
    """The published stages 2 and 3 drop them: in stage 3 for their loss reduction."""
    session, defense = prepared(tmp_path, f"global.keep_seeds={str(keeps).lower()}")
    seeds, plain = session.material.seeds, defense_asd.record
    looks: list[int] = []

    def high_for_seeds(*given: Any) -> Record:
        looks.append(0)
        found = plain(*given)
        # Of the model, not of the virtual one, whose look is the second: their reduction is high.
        added = 100.0 if len(looks) == 1 else 0.0
        loss = found.loss.index_add(0, seeds, torch.full((len(seeds),), added))
        return Record(loss, found.agrees)

    monkeypatch.setattr(defense_asd, "record", high_for_seeds)
    clean = defense.split(epoch).clean
    assert len(looks) == (1 if epoch == 4 else 2)
    assert bool(clean[seeds].all()) == keeps
    assert bool(clean[seeds].any()) == keeps

"""Witnesses and the share that the data give, in whole runs: vetoes hold.

`test_hearing_resumed.py` has runs that are stopped.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from config.load import load_config
from defense.asd import AdaptiveSplitting
from report.accusations import accusations_of, kinds_seen
from report.examine import gather
from run.session import Session
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from training.draws import EpochDraws
from utils.errors import InputError
from utils.interrupt import Interrupt
from witness.contradicted_group import ContradictedGroup
from witness.reference import Trainer
from witness.unverified_group import UnverifiedGroup
from witness.witness import Case, Statement

HEARD = (
    "global.epsilon=auto",
    "global.class_floor=0.2",
    "witness.heard=[unverified_group]",
    "witness.reference.network={fastnet: {width: 4}}",
    "witness.reference.epochs=2",
    "witness.reference.steps=4",
    "semi.loader.balance=pools",
    "semi.ema=0.9",
    "semi.mixmatch.adjustment=true",
)


def arguments(storage: Path, *more: str) -> list[str]:
    return ["--config", str(DIGITS), "--gpu", "cpu", *TINY, *HEARD, f"storage_dir={storage}", *more]


def log(storage: Path) -> list[dict[str, str]]:
    with (storage / "digits" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def veto_some(_: UnverifiedGroup, case: Case) -> Statement:
    """Object to every fifth sample that is not verified, of class 3 above all."""
    vetoed = (torch.arange(len(case.labels)) % 5 == 0) & ~case.verified
    return Statement(vetoed.float(), vetoed, {3: 0.8}, 0.0)


@pytest.fixture
def with_vetoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnverifiedGroup, "testify", veto_some)


@pytest.fixture
def session(tmp_path: Path, with_vetoes: None) -> Session:
    with Interrupt() as interrupt:
        return ASD.prepare(set_up(parse_arguments(arguments(tmp_path)), interrupt))


@pytest.mark.parametrize("epoch", [0, 2, 4, 7])
def test_a_vetoed_sample_keeps_its_label_in_no_stage(session: Session, epoch: int) -> None:
    hearing = session.defense.setting.knowledge.hearing
    assert hearing is not None
    pools = session.defense.split(epoch)
    vetoed = hearing.testimony.vetoed
    assert int(vetoed.sum()) > 20
    assert not (pools.clean & vetoed).any()
    assert pools.clean.any()


def test_a_vetoed_sample_is_not_seen_at_all_unless_that_is_asked_for(session: Session) -> None:
    hearing = session.defense.setting.knowledge.hearing
    assert hearing is not None
    vetoed = hearing.testimony.vetoed
    clean = session.defense.split(4).clean
    ground, semi = session.ground, session.config.semi
    drawn = EpochDraws(ground, semi, clean, 4, vetoed)
    seen = torch.zeros(len(vetoed), dtype=torch.bool)
    seen[drawn.unlabelled], seen[drawn.labelled] = True, True
    assert not (seen & vetoed).any()
    assert seen[~vetoed].any()
    everything = EpochDraws(ground, semi, clean, 4)
    assert vetoed[everything.unlabelled].any()


def test_where_nothing_is_doubtful_any_sample_is_seen_without_its_label(session: Session) -> None:
    clean = torch.ones(len(session.training), dtype=torch.bool)
    drawn = EpochDraws(session.ground, session.config.semi, clean, 0)
    assert len(drawn.unlabelled)


def test_nobody_is_asked_before_the_first_split(session: Session, tmp_path: Path) -> None:
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("reference*"))
    session.defense.split(0)
    assert list((tmp_path / "cache").glob("reference*"))


def test_what_witnesses_say_reaches_the_ranking_and_the_verdict(session: Session) -> None:
    hearing = session.defense.setting.knowledge.hearing
    assert hearing is not None
    from report.findings import ask

    opinion = ask(session.model, session.training, session.test_chain, session.engine, 100)
    review, seeds = session.material.review, session.material.seeds
    history = session.progress.history
    history.note("class-aware", session.defense.split(0))
    findings = gather(session.training, opinion, history, seeds, review, hearing.testimony)
    vetoed = hearing.testimony.vetoed
    own = session.training.labels == 3
    assert findings.score[vetoed & own].min() > findings.score[~vetoed].max()
    assert not findings.kept[vetoed].any()
    said = accusations_of(findings)
    assert list(said) == [3]
    estimate = said[3].estimate
    assert estimate.low <= estimate.count <= estimate.high
    assert estimate.count >= int((vetoed & own).sum())
    assert "clean_label" in kinds_seen(findings)


def test_columns_of_the_log_and_of_the_suspects(tmp_path: Path, with_vetoes: None) -> None:
    assert ASD.main([*arguments(tmp_path), "report=true"]) == 0
    rows = log(tmp_path)
    assert [bool(row["kept_share"]) for row in rows] == [False] * 3 + [True] * 3 + [False] * 3
    with (tmp_path / "digits" / "report" / "suspects.csv").open() as file:
        suspects = list(csv.DictReader(file))
    assert {row["vetoed_by"] for row in suspects} == {"", "unverified_group"}
    assert all(row["witness_unverified_group"] for row in suspects)
    assert all(row["kept"] == "0" for row in suspects if row["vetoed_by"])


WAITS = "witness.heard=[unverified_group, contradicted_group]"


def veto_others(_: ContradictedGroup, case: Case) -> Statement:
    """Object to every seventh sample that is not verified, of class 4 above all."""
    assert case.model_loss is not None
    vetoed = (torch.arange(len(case.labels)) % 7 == 1) & ~case.verified
    return Statement(vetoed.float(), vetoed, {4: 0.7}, 0.0)


def test_who_waits_is_heard_when_stage_1_has_ended_and_vetoes_from_then_on(
    tmp_path: Path, with_vetoes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ContradictedGroup, "testify", veto_others)
    given = parse_arguments(arguments(tmp_path, WAITS))
    with Interrupt() as interrupt:
        session = ASD.prepare(set_up(given, interrupt))
    hearing = session.defense.setting.knowledge.hearing
    assert hearing is not None
    session.defense.split(2)
    assert list(hearing.testimony.statements) == ["unverified_group"]
    before = hearing.testimony.vetoed
    assert "told" not in session.defense.state_dict()
    pools = session.defense.split(3)
    assert list(hearing.testimony.accused) == [3, 4]
    later = hearing.testimony.vetoed & ~before
    assert later.any()
    assert not (pools.clean & hearing.testimony.vetoed).any()
    told = session.defense.state_dict()["told"]
    session.defense.split(6)
    assert torch.equal(session.defense.state_dict()["told"], told)
    assert not (session.defense.split(8).clean & later).any()


@pytest.mark.parametrize(
    "told", [torch.zeros(3), torch.zeros(300).double(), torch.full((300,), torch.nan), [0.0] * 300]
)
def test_what_was_told_is_checked_when_a_checkpoint_is_read(session: Session, told: Any) -> None:
    state = {**session.defense.state_dict(), "told": told}
    with pytest.raises(ValueError, match="losses of 300 samples"):
        session.defense.load_state_dict(state)


def test_the_paper_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a reference was trained")

    monkeypatch.setattr(Trainer, "train", never)
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={tmp_path}"]
    assert ASD.main([*given, "num_epochs=1"]) == 0


def test_a_share_by_the_data_needs_cross_entropy() -> None:
    with pytest.raises(InputError, match=r"global\.epsilon: auto") as caught:
        load_config(DIGITS, ["global.epsilon=auto", "split.criterion={sce: null}"])
    assert "\n" not in str(caught.value)


def test_a_witness_that_compares_cross_entropies_needs_them() -> None:
    given = ["witness.heard=[contradicted_group]", "split.criterion={sce: null}"]
    with pytest.raises(InputError, match=r"witness\.heard\.contradicted_group") as caught:
        load_config(DIGITS, given)
    assert "\n" not in str(caught.value)


def test_what_the_model_takes_for_what_is_vetoed_is_not_drawn(
    tmp_path: Path, with_vetoes: None
) -> None:
    """A guess that gives the vetoed label back would teach it."""
    given = parse_arguments(arguments(tmp_path, "witness.vetoed=contradicted"))
    with Interrupt() as interrupt:
        session = ASD.prepare(set_up(given, interrupt))
    defense = session.defense
    assert isinstance(defense, AdaptiveSplitting)
    pools, vetoed = defense.split(2), defense.setting.knowledge.hearing.testimony.vetoed
    agrees = defense.state_dict()["agrees"]
    assert (vetoed & agrees).any() and (vetoed & ~agrees).any()
    draws = EpochDraws(
        session.ground, defense.semi, pools.clean, 2, defense.exclusion.left_out(vetoed)
    )
    drawn = torch.zeros_like(vetoed).index_fill(0, draws.unlabelled, True)
    assert not (drawn & vetoed & agrees).any()
    assert (drawn & vetoed & ~agrees).any()


@pytest.mark.parametrize("agrees", [torch.zeros(3), torch.zeros(300), [True] * 300])
def test_what_the_last_split_saw_is_checked_when_a_checkpoint_is_read(
    session: Session, agrees: Any
) -> None:
    state = {**session.defense.state_dict(), "agrees": agrees}
    with pytest.raises(ValueError, match="each of 300 samples"):
        session.defense.load_state_dict(state)

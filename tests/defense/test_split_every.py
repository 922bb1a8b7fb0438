"""Pools that are kept for several epochs: fewer looks, the same bits after an interruption."""

from __future__ import annotations

import csv
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ASD
import defense.asd
from command.arguments import parse_arguments
from defense.history import History
from defense.schedule import is_split, last_split_of_stage_1
from defense.settings import GlobalSection
from run.checkpoint import LATEST, load_checkpoint
from run.session import TIME_COLUMNS, Session
from run.setup import set_up
from tests.conftest import DIGITS, TINY, killed_before_step
from tests.run.test_distributed import in_two_processes
from utils.interrupt import Interrupt
from utils.world import World

EVERY_2 = "global.split_every=2"
IN_TINY = ["anew", "kept", "anew"] * 2 + ["anew"] * 3  # stages of three epochs each
WAITS = (
    "witness.heard=[contradicted_group]",
    "split.criterion={cross_entropy: null}",
    "witness.reference.network={fastnet: {width: 4}}",
    "witness.reference.epochs=2",
    "witness.reference.steps=4",
)


def arguments(storage: Path, *more: str) -> list[str]:
    return ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *more]


def prepared(storage: Path, *more: str) -> Session:
    with Interrupt() as interrupt:
        return ASD.prepare(set_up(parse_arguments(arguments(storage, *more)), interrupt))


def log(storage: Path) -> list[dict[str, str]]:
    with (storage / "digits" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIME_COLUMNS} for row in rows]


def saved(storage: Path) -> dict[str, Any]:
    return load_checkpoint(storage / "digits" / "checkpoint" / LATEST)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the record passes of all runs of the test."""
    found, record = [0], defense.asd.record

    def counted(*given: Any) -> Any:
        found[0] += 1
        return record(*given)

    monkeypatch.setattr(defense.asd, "record", counted)
    return found


@pytest.mark.parametrize(
    ("every", "splits"),
    [(1, range(12)), (2, (0, 2, 4, 5, 7, *range(9, 12))), (9, (0, 5, *range(9, 12)))],
)
def test_each_stage_begins_with_a_split_and_stage_3_has_one_in_every_epoch(
    every: int, splits: Any
) -> None:
    schedule = GlobalSection(epoch_first=5, epoch_second=9, epoch_third=12, split_every=every)
    assert [epoch for epoch in range(12) if is_split(epoch, schedule)] == list(splits)
    assert last_split_of_stage_1(12, schedule) == max(e for e in splits if e < 5)
    assert last_split_of_stage_1(4, schedule) == max(e for e in splits if e < 4)


def test_every_second_split_is_half_of_the_record_passes(tmp_path: Path, passes: list[int]) -> None:
    two_stages = ("num_epochs=8", "global.epoch_first=4", "global.epoch_second=8")
    counts = []
    for every in (1, 2):
        passes[0] = 0
        given = arguments(tmp_path / str(every), *two_stages, f"global.split_every={every}")
        assert ASD.main(given) == 0
        counts.append(passes[0])
    assert counts == [8, 4]
    published, kept = log(tmp_path / "1"), log(tmp_path / "2")
    assert "split" not in published[0]
    assert [row["split"] for row in kept] == ["anew", "kept"] * 4
    assert [bool(row["auroc"]) for row in kept] == [True, False] * 4
    for first, second in zip(kept[::2], kept[1::2], strict=True):
        for column in ("stage", "clean_pool", "poisoned_in_clean_pool", "tpr", "fpr"):
            assert first[column] == second[column]
    sizes = [int(row["clean_pool"]) for row in kept]
    assert sizes[:4] == [50, 50, 90, 90]  # 2 a class and epoch join at a split, as scheduled
    assert sizes[:4:2] == [int(row["clean_pool"]) for row in published[:4:2]]


def test_the_published_way_keeps_nothing(tmp_path: Path) -> None:
    session = prepared(tmp_path)
    for epoch in (0, 1, 3, 4):
        pools = session.defense.split(epoch)
        assert pools.loss is not None and not pools.kept and not pools.figures
    assert session.defense.state_dict() == {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is never stopped."""
    storage = tmp_path_factory.mktemp("whole")
    assert ASD.main(arguments(storage, EVERY_2)) == 0
    assert [row["split"] for row in log(storage)] == IN_TINY
    return storage


@pytest.mark.parametrize("after", [2, 4, 5, 13])
def test_a_run_that_is_stopped_between_two_splits_ends_alike(
    whole: Path, tmp_path: Path, after: int
) -> None:
    """Before step 4 and 13, with which epochs that keep their pools begin, and inside of epochs."""
    with killed_before_step(after):
        ASD.main(arguments(tmp_path, EVERY_2))
    assert ASD.main(arguments(tmp_path, EVERY_2)) == 0
    ours, theirs = saved(tmp_path), saved(whole)
    weights = theirs["model_state_dict"]
    assert all(torch.equal(ours["model_state_dict"][name], weights[name]) for name in weights)
    assert torch.equal(ours["history"]["polluted"], theirs["history"]["polluted"])
    assert ours["history"]["epochs"] == 9
    assert log(tmp_path) == log(whole)


def test_a_run_that_is_killed_after_an_epoch_keeps_that_epochs_pools(tmp_path: Path) -> None:
    """The checkpoint between two epochs holds no pools of an epoch under way."""
    first = prepared(tmp_path, EVERY_2)
    ASD.begin(first)
    clean = first.defense.split(0).clean
    first.progress.rows = [{"epoch": 0, "stage": "class-aware", "clean_pool": int(clean.sum())}]
    first.progress.rows[0] |= {"learning_rate": 0.1, "acc": None, "seconds": 0.0}
    first.progress.epoch = 1
    for parameter in first.network.parameters():  # it would split otherwise now
        parameter.data.neg_()
    for _ in first.defense.steps(0, clean, 0):
        pass
    first.save()
    second = prepared(tmp_path, EVERY_2)
    pools = second.defense.split(1)
    assert pools.kept and torch.equal(pools.clean, clean)
    assert not torch.equal(second.defense.split(2).clean, clean)


def test_kept_pools_count_as_epochs_in_the_polluted_pool(tmp_path: Path) -> None:
    session, history = prepared(tmp_path, EVERY_2), History()
    for epoch in range(2):
        history.note("class-aware", session.defense.split(epoch))
    assert history.epochs == 2
    assert history.polluted is not None
    assert set(history.polluted.tolist()) == {0, 2}


def test_a_review_reaches_the_pools_that_are_kept(tmp_path: Path) -> None:
    session = prepared(tmp_path, EVERY_2)
    clean = session.defense.split(0).clean
    review = session.material.review
    inside, outside = (torch.nonzero(part).flatten()[-1:] for part in (clean, ~clean))
    reviewed = type(review)(accepted=outside, rejected=inside)
    knowledge = type(session.defense.setting.knowledge)(session.material.seeds, reviewed)
    object.__setattr__(session.defense.setting, "knowledge", knowledge)
    pools = session.defense.split(1)
    assert pools.kept
    assert pools.clean[outside].all() and not pools.clean[inside].any()
    assert int((pools.clean != clean).sum()) == 2


def test_who_waits_is_told_at_the_end_of_stage_1(tmp_path: Path) -> None:
    session = prepared(tmp_path, *WAITS, "global.split_every=99")
    for epoch, told in ((0, False), (2, False), (3, True), (4, True)):
        session.defense.split(epoch)
        assert ("told" in session.defense.state_dict()) == told


def test_a_kept_epoch_costs_no_looks(tmp_path: Path) -> None:
    published, kept = (prepared(tmp_path / str(n), f"global.split_every={n}") for n in (1, 2))
    for epoch, split in enumerate(IN_TINY):
        expected = published.defense.extra_forwards(epoch) if split == "anew" else 0
        assert kept.defense.extra_forwards(epoch) == expected


def test_the_plan_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], passes: list[int]
) -> None:
    assert ASD.main([*arguments(tmp_path, EVERY_2), "--check"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.count("split every 2 epochs") for line in lines] == [0, 1, 1, 0]
    assert "50 to 90," in lines[1]
    assert passes == [0]


@pytest.mark.parametrize(
    "kept", [torch.zeros(3, dtype=torch.bool), torch.zeros(300), [True] * 300, None]
)
def test_a_kept_pool_is_checked_when_a_checkpoint_is_read(tmp_path: Path, kept: Any) -> None:
    session = prepared(tmp_path, EVERY_2)
    with pytest.raises(ValueError, match="each of 300 samples"):
        session.defense.load_state_dict({"kept": kept})


def pools_of(storage: Path, world: World) -> list[Tensor]:
    """Return the pools of four epochs in this process, of several."""
    os.environ |= {"WORLD_SIZE": str(world.size), "RANK": str(world.rank)}
    session = prepared(storage / str(world.size), EVERY_2, "sync_bn=true")
    assert session.engine.world.size == world.size
    return [session.defense.split(epoch).clean for epoch in range(4)]


def test_all_processes_keep_the_pools_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "")  # is as it was afterwards
    expected = pools_of(tmp_path, World())
    assert torch.equal(expected[0], expected[1])
    assert not torch.equal(expected[0], expected[2])
    for found in in_two_processes(partial(pools_of, tmp_path), tmp_path):
        assert all(torch.equal(ours, one) for ours, one in zip(found, expected, strict=True))


def test_a_report_of_such_a_run_is_whole(tmp_path: Path) -> None:
    more = ("global.epsilon=auto", *WAITS, "report=true", EVERY_2)
    assert ASD.main(arguments(tmp_path, *more)) == 0
    rows = log(tmp_path)
    measured = [bool(row["kept_share"]) for row in rows]
    assert measured == [False] * 3 + [True, False, True] + [False] * 3
    page = (tmp_path / "digits" / "report" / "report.html").read_text()
    assert "Samples in both pools" in page

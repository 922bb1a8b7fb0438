"""The time that is left of a whole run: from made-up epochs, never from a clock."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ASD
from command.arguments import parse_arguments
from config.load import load_config
from defense import DEFENSES
from run.checkpoint import Progress
from run.folder import RunFolder
from run.forecast import Cost, Span, duration, estimate, plan_costs
from run.setup import set_up
from run.standing import Standing, standing_of
from tests.conftest import DIGITS, TINY
from tests.defense.staged import METHODS
from utils.interrupt import Interrupt

STEP, FORWARD = 0.5, 0.01  # seconds of the made-up machine
EARLY = Cost("class-aware", steps=10, images=80, extra_forwards=100)
LATE = Cost("meta-split", steps=10, images=80, extra_forwards=700)


def lasted(cost: Cost, factor: float = 1.0, once: float = 0.0) -> dict[str, float]:
    """Return the log row of an epoch on the made-up machine, which is `factor` times as slow."""
    step = STEP * factor
    seconds = cost.steps * step + cost.extra_forwards * FORWARD * factor + once
    return {"seconds": round(seconds, 3), "images_per_second": round(cost.images / step, 1)}


def test_nothing_is_told_before_an_epoch_is_done_nor_after_the_last() -> None:
    costs = [EARLY] * 3
    assert estimate(costs, []) is None
    assert estimate(costs, [lasted(EARLY)] * 3) is None
    assert estimate(costs, [lasted(EARLY)] * 2) is not None


def test_a_stage_that_was_seen_takes_what_it_took() -> None:
    costs = [EARLY] * 4 + [LATE] * 6
    rows = [lasted(cost) for cost in costs[:6]]
    left = estimate(costs, rows)
    assert left is not None
    assert left.low == pytest.approx(4 * (10 * STEP + 700 * FORWARD), rel=1e-3)
    assert left.high == pytest.approx(left.low, rel=1e-3)
    assert str(left) == "about 50 s"


def test_a_later_stage_that_costs_more_is_not_taken_for_the_earlier_one() -> None:
    """As many epochs of equal length would be 24 s; the truth lies in the range, and is 48 s."""
    costs = [EARLY] * 4 + [LATE] * 4
    left = estimate(costs, [lasted(EARLY)] * 4)
    assert left is not None
    truth = 4 * (10 * STEP + 700 * FORWARD)
    assert left.low < truth < left.high
    assert left.low > 4 * lasted(EARLY)["seconds"] and left.high < 2 * truth


def test_what_is_done_once_in_the_first_epoch_widens_the_range_then_and_is_forgotten() -> None:
    costs = [EARLY] * 10
    first = lasted(EARLY, once=60.0)
    truth = lasted(EARLY)["seconds"]
    early, later = estimate(costs, [first]), estimate(costs, [first, lasted(EARLY)])
    assert early is not None and later is not None
    assert early.low < 9 * truth < early.high and early.high > 2 * early.low
    assert later.low == pytest.approx(8 * truth, rel=1e-3) == later.high


def test_an_epoch_without_an_extra_forward_does_not_say_what_one_takes() -> None:
    """The time that saving takes is not that of a forward."""
    blind = Cost("class-aware", steps=10, images=80, extra_forwards=0)
    rows = [lasted(EARLY), lasted(blind, once=0.4), lasted(EARLY), lasted(blind, once=0.4)]
    left = estimate([EARLY, blind] * 4, rows)
    assert left is not None
    assert left.low == pytest.approx(4 * 10 * STEP + 2 * 100 * FORWARD, rel=1e-3) == left.high
    first = estimate([blind, EARLY], [lasted(blind, once=0.4)])
    assert first is not None and first.high < 2 * lasted(EARLY)["seconds"]


def test_a_machine_that_becomes_busy_is_noticed() -> None:
    costs = [EARLY] * 40
    rows = [lasted(EARLY)] * 10 + [lasted(EARLY, factor=3.0)] * 8
    left = estimate(costs, rows)
    assert left is not None
    assert left.low == pytest.approx(22 * lasted(EARLY, factor=3.0)["seconds"], rel=1e-3)


def test_a_speed_that_is_rounded_to_nothing_is_that_of_the_whole_epoch() -> None:
    slow = {"seconds": 1000.0, "images_per_second": 0.0}
    assert estimate([EARLY] * 2, [slow]) == Span(1000.0, 1000.0)


def test_steps_of_another_kind_are_estimated_widely() -> None:
    pairs, other = Cost("contrastive", 10, 128, 0), Cost("mixmatch", 10, 320, 0)
    left = estimate([pairs, other], [lasted(pairs)])
    assert left is not None
    assert left.low == pytest.approx(5 * 2.5 / 1.5, rel=1e-3)
    assert left.high == pytest.approx(5 * 2.5 * 1.5, rel=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (3, 3, "about 10 s"),
        (40, 44, "about 40 s"),
        (40, 70, "40 to 70 s"),
        (60, 200, "60 s to 3 min"),
        (700, 1200, "12 to 20 min"),
        (5400, 9000, "90 min to 2 h 30 min"),
        (9000, 18_000, "2 h 30 min to 5 h 0 min"),
        (65, 85, "60 to 80 s"),
    ],
)
def test_a_range_reads_as_people_say_it(low: float, high: float, text: str) -> None:
    assert str(Span(low, high)) == text


def test_durations() -> None:
    assert [duration(s) for s in (0, 89, 91, 7100, 7300)] == [
        *("10 s", "90 s", "2 min", "118 min", "2 h 2 min"),
    ]


@pytest.mark.parametrize(
    ("standing", "text"),
    [
        (Standing(6, 6), "finished, epoch 6 of 6"),
        (Standing(2, 6), "stopped after epoch 2 of 6"),
        (Standing(0, 6, running=True), "still training, epoch 0 of 6"),
        (Standing(2, 6, True, Span(700, 1200)), "still training, epoch 2 of 6, 12 to 20 min left"),
    ],
)
def test_how_far_a_run_is(standing: Standing, text: str) -> None:
    assert str(standing) == text


def test_a_repair_is_no_unfinished_training(tmp_path: Path) -> None:
    """It has as many epochs as it has, whatever those of the run that it repairs."""
    repair = ["defense=none", "repair.method=nad", "repair.of=digits_none"]
    session: Any = SimpleNamespace(
        progress=Progress(epoch=1, rows=[{"epoch": 0}]),
        config=load_config(DIGITS, repair).config,
        folder=RunFolder(tmp_path / "run"),
    )
    assert session.config.num_epochs > 1
    assert str(standing_of(session)) == "finished, epoch 1 of 1"


class Clock:
    """Takes a second at each look."""

    def __init__(self) -> None:
        self.looks = itertools.count()

    def __call__(self) -> float:
        return float(next(self.looks))


def test_the_console_tells_it_from_the_first_epoch_on(
    tiny_arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    assert ASD.main(tiny_arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    (start,) = [place for place, line in enumerate(lines) if line.split()[:1] == ["epoch"]]
    ends = [line for line in lines[start + 1 :] if re.match(r" +\d+ +(class-|meta-)", line)]
    assert lines[start].split()[-1] == "left"
    assert len(ends) == 9
    assert all(re.search(r"(\d+ s|min)$", line) for line in ends[:-1])
    assert ends[-1].endswith(" -")


@pytest.mark.parametrize("defense", list(DEFENSES))
def test_every_defence_has_a_plan_of_costs(tmp_path: Path, defense: str) -> None:
    """A meta-split costs more than the splits before it, and an epoch without a test less."""
    more = [f"defense={defense}", *METHODS.get(defense, ()), "test_interval=2"]
    more.append(f"storage_dir={tmp_path}")
    arguments = parse_arguments(["--config", str(DIGITS), "--gpu", "cpu", *TINY, *more])
    session = ASD.prepare(set_up(arguments, Interrupt()))
    costs = plan_costs(session)
    assert len(costs) == session.config.num_epochs
    assert all(cost.steps > 0 and cost.images > 0 for cost in costs)
    assert session.truth.triggered_test is not None
    tests = len(session.truth.clean_test) + len(session.truth.triggered_test)
    assert costs[1].extra_forwards - costs[0].extra_forwards == tests
    if defense == "asd":
        assert costs[6].extra_forwards == 2 * 300 + 3 * 300 and costs[4].extra_forwards == 300

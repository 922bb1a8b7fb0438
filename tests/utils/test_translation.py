"""Whether steps are translated: pure logic, on devices that are not here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from model import NETWORKS, build_network
from run.session import Session
from run.setup import set_up
from tests.conftest import DIGITS, TINY, killed_before_step
from tests.defense.staged import METHODS, prepared
from tests.training.test_speed import narrow
from training.mixmatch import OF_MIXMATCH
from utils import translation
from utils.engine import Engine, choose_engine, settled
from utils.interrupt import Interrupt
from utils.speed import SpeedSettings
from utils.translation import MEASURED, Size, Steps, decide, size_of
from utils.world import ALONE, World

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CARD = MEASURED["cuda"]
PAPERS = Steps(122_880, *OF_MIXMATCH, 64)


def on_a_gpu(*steps: Steps, size: Size = CARD.size) -> translation.Decision:
    return decide("cuda", 1, lambda: size, steps)


def test_what_was_measured_is_what_is_estimated_for_it() -> None:
    """A step of the paper's network saves 23 ms and takes 32 s (docs/speed.md, the first GPU)."""
    one = replace(PAPERS, count=1)
    assert CARD.saved(CARD.size, one) == pytest.approx(0.0294 - 0.0064)
    assert CARD.cost(CARD.size, one) == 32.0
    kind = NETWORKS.get("resnet18_cifar")
    network = build_network(kind, kind.Settings.model_validate({"width": 64}), 10, 7)
    assert size_of(network, (32, 32)) == CARD.size


@pytest.mark.parametrize(("count", "pays"), [(1, False), (1391, False), (1392, True)])
def test_a_run_is_translated_from_the_step_on_that_earns_it(count: int, pays: bool) -> None:
    assert on_a_gpu(replace(PAPERS, count=count)).translate is pays


def test_the_line_says_which_way_and_why() -> None:
    assert on_a_gpu(PAPERS).why == (
        "steps are translated; that takes about 32 s and saves 2,826 s of the 122,880 steps that "
        "are left"
    )
    assert on_a_gpu(replace(PAPERS, count=640)).why == (
        "steps run as they are; translating takes about 32 s and would save 15 s of the 640 steps "
        "that are left"
    )


def test_a_cpu_never_translates_and_its_network_is_not_even_measured() -> None:
    def never() -> Size:
        raise AssertionError("it does not matter")

    found = decide("cpu", 1, never, [PAPERS])
    assert not found.translate
    assert found.why == "steps run as they are; on a CPU that takes no longer"
    several = decide("cuda", 2, never, [PAPERS])
    assert not several.translate and "several processes" in several.why


def test_a_step_whose_arithmetic_holds_it_up_saves_nothing() -> None:
    huge = Size(CARD.size.layers, 100 * CARD.size.multiply_adds)
    assert CARD.saved(huge, PAPERS) == 0.0
    assert not on_a_gpu(replace(PAPERS, count=10**9), size=huge).translate


def test_deeper_networks_take_longer_and_shallower_ones_are_not_trusted_to_take_less() -> None:
    deep, shallow = (replace(CARD.size, layers=layers) for layers in (82, 4))
    assert CARD.cost(deep, PAPERS) == 64.0
    assert CARD.cost(shallow, PAPERS) == 32.0
    assert CARD.cost(CARD.size, Steps(9, 1, 1, 64)) == 32.0


def test_each_kind_of_step_is_translated_by_itself() -> None:
    """The virtual models' steps are another graph; of a kind that does not come none is."""
    enough = replace(PAPERS, count=1500)
    assert on_a_gpu(enough).translate
    assert on_a_gpu(enough, Steps(0, 1, 1, 64)).translate
    assert not on_a_gpu(enough, Steps(10, 1, 1, 64)).translate


@pytest.mark.parametrize(
    "speed", [SpeedSettings(compile=False), SpeedSettings(reference=True), SpeedSettings()]
)
def test_only_auto_with_steps_to_come_is_decided(
    speed: SpeedSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    network = narrow(16)
    engine = choose_engine(CPU, speed, network, ALONE)
    steps = [replace(PAPERS, count=0)] if speed == SpeedSettings() else [PAPERS]
    assert settled(engine, network, (16, 16), steps) is engine
    assert "speed.compile" not in capsys.readouterr().out


def test_steps_that_cannot_be_translated_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("utils.engine.why_not", lambda _: "there is no compiler")
    engine = Engine(GPU, speed=SpeedSettings())
    assert not settled(engine, narrow(64), (32, 32), [PAPERS]).compiled
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[1].endswith("not compiled, since there is no compiler")
    monkeypatch.setattr("utils.engine.why_not", lambda _: None)
    assert settled(engine, narrow(64), (32, 32), [PAPERS]).compiled
    shared = replace(engine, world=World(0, 2))
    assert not settled(shared, narrow(64), (32, 32), [PAPERS]).compiled


# ------------------------------------------------------------------------- the steps of a run


def session_of(storage: Path, *more: str) -> Session:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *more]
    with Interrupt() as interrupt:
        return ASD.prepare(set_up(parse_arguments(given), interrupt))


def test_a_run_counts_what_it_has_left(tmp_path: Path) -> None:
    """Nine epochs of three MixMatch steps; three virtual models of 300 samples, 128 at a time."""
    defense = session_of(tmp_path).defense
    batch = defense.setting.config.loader.batch_size
    each = -(-300 // batch)
    assert defense.steps_left(0) == [Steps(27, 5, 3, 16), Steps(3 * each, 1, 1, batch)]
    assert defense.steps_left(7, 2) == [Steps(4, 5, 3, 16), Steps(2 * each, 1, 1, batch)]
    assert not any(kind.count for kind in defense.steps_left(9))


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_every_method_counts_the_steps_that_may_be_translated(tmp_path: Path, method: str) -> None:
    defense = (
        session_of(tmp_path, "defense=none").defense
        if method == "none"
        else prepared(method, tmp_path)
    )
    epochs = range(defense.setting.config.num_epochs)
    usable = [epoch for epoch in epochs if defense.passes_in_step(epoch)[0]]
    left = defense.steps_left(0)
    assert sum(kind.count for kind in left) == sum(map(defense.steps_in, usable))
    assert len(usable) == len(epochs) - (2 if method == "dbd" else 0)
    assert all(kind.images > 1 and kind.forwards for kind in left)
    last = epochs[-1]
    (end,) = defense.steps_left(last, 1)
    assert end.count == defense.steps_in(last) - 1


def test_a_run_whose_steps_are_worth_it_is_built_with_translated_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    translated: list[Any] = []
    monkeypatch.setattr("utils.engine.why_not", lambda _: None)
    monkeypatch.setattr("utils.engine.translated", lambda step, _: translated.append(step) or step)
    usual = session_of(tmp_path)
    assert not usual.engine.compiled and not translated
    assert capsys.readouterr().out.count("speed.compile: steps run as they are") == 1
    slow = replace(CARD, usual=1e6)
    monkeypatch.setattr(translation, "MEASURED", {"cpu": slow})
    session = session_of(tmp_path)
    assert session.engine.compiled and "compiled" in str(session.engine)
    assert session.ground is session.defense.setting.ground
    assert len(translated) == 1
    assert capsys.readouterr().out.count("speed.compile: steps are translated") == 1


def test_a_run_that_goes_on_counts_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = session_of(tmp_path)
    ASD.begin(session)
    with killed_before_step(5):  # in the second epoch
        ASD.train(session, Interrupt())
    monkeypatch.setattr(translation, "MEASURED", {"cpu": CARD})
    capsys.readouterr()
    again = session_of(tmp_path)
    left = sum(kind.count for kind in again.defense.steps_left(1))
    assert left == sum(kind.count for kind in again.defense.steps_left(0)) - 3
    assert f"of the {left} steps that are left" in capsys.readouterr().out

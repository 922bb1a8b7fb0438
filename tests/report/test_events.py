"""TensorBoard shows the log's numbers, each epoch once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from report import events
from report.events import FILE, write_events
from utils.errors import TrainingError

ROWS: list[dict[str, Any]] = [
    {
        "epoch": 0,
        "stage": "class-aware",
        "loss": 2.5,
        "clean_pool": 50,
        "acc": None,
        "seconds": 3.0,
    },
    {"epoch": 1, "stage": "class-aware", "loss": 1.5, "clean_pool": 70, "acc": 0.5, "seconds": 4.0},
    {"epoch": 2, "stage": "meta-split", "loss": 0.5, "clean_pool": 90, "acc": 0.75, "seconds": 8.0},
]


def read(folder: Path) -> dict[str, list[Any]]:
    """Return the events of each curve, as TensorBoard reads them."""
    reason = "tensorboard is not installed; it is in requirements-dev.txt"
    pytest.importorskip("tensorboard", reason=reason)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {name: reader.Scalars(name) for name in reader.Tags()["scalars"]}


def test_every_number_of_the_log_is_a_curve(tmp_path: Path) -> None:
    write_events(tmp_path / "report" / "events", ROWS)
    curves = read(tmp_path / "report" / "events")
    assert curves.keys() == {"loss", "clean_pool", "acc", "seconds"}
    assert [(event.step, event.value) for event in curves["loss"]] == [(0, 2.5), (1, 1.5), (2, 0.5)]
    assert [event.value for event in curves["clean_pool"]] == [50, 70, 90]
    assert [(event.step, event.value) for event in curves["acc"]] == [(1, 0.5), (2, 0.75)]


def test_written_again_each_epoch_is_there_once(tmp_path: Path) -> None:
    write_events(tmp_path, ROWS[:2])
    write_events(tmp_path, ROWS)
    assert [event.step for event in read(tmp_path)["loss"]] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_times_are_those_of_training(tmp_path: Path) -> None:
    write_events(tmp_path, ROWS)
    times = [event.wall_time for event in read(tmp_path)["loss"]]
    assert times[1] - times[0] == pytest.approx(4, abs=1e-3)
    assert times[2] - times[1] == pytest.approx(8, abs=1e-3)


def test_without_tensorboard_a_line_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(events, "_said", False)
    write_events(tmp_path / "events", ROWS)
    write_events(tmp_path / "events", ROWS)
    assert capsys.readouterr().out.count("tensorboard is not installed") == 1
    assert not (tmp_path / "events").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="without tensorboard nothing is written")
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrainingError, match="could not be written") as caught:
        write_events(tmp_path / "file" / "events", ROWS)
    assert "\n" not in str(caught.value)

"""A list that somebody stops: the run that is under way saves, and is not finished."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import run_all
from command.jobs import is_finished, plan_jobs
from run.checkpoint import LATEST, load_checkpoint
from tests.command.test_run_all import write
from tests.conftest import TINY


def test_an_interrupted_list_lets_its_run_save(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    longer = ["num_epochs=400", f"storage_dir={tmp_path}"]
    given = [str(write(tmp_path, "long")), "--gpu", "cpu", "--csv", str(tmp_path / "t.csv")]
    given += ["--defense", "none", "--", *TINY, "global.epoch_third=400", *longer]
    log = tmp_path / "long_none" / "log.csv"

    over = threading.Event()  # a signal after the list's end would hit another test

    def interrupt_once_it_trains() -> None:
        while not log.exists() and not over.wait(0.05):
            pass
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_once_it_trains)
    watcher.start()
    try:
        assert run_all.main(given) == 128 + signal.SIGINT
    finally:
        over.set()
        watcher.join()
    # The run itself has saved and ended, too.
    assert "stopped; saved at epoch" in capfd.readouterr().out
    state = load_checkpoint(tmp_path / "long_none" / "checkpoint" / LATEST)
    assert 1 <= state["epoch"] < 400
    job = plan_jobs(run_all.parse(given))[0]
    assert not is_finished(job)

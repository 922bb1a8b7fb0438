"""A split that is interrupted while it is noted down is noted once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import ASD
from defense.history import History
from run.checkpoint import LATEST, load_checkpoint
from tests.run.processes import SHORT


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_signal_while_a_split_is_noted(
    tiny_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    arguments, noted = [*tiny_arguments, *SHORT], [0]
    note = History.note

    def interrupted_note(history: History, *given: Any) -> None:
        noted[0] += 1
        if noted[0] == 2 and moment == "before":
            os.kill(os.getpid(), signal.SIGTERM)
        note(history, *given)
        if noted[0] == 2 and moment == "after":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(History, "note", interrupted_note)
    assert ASD.main(arguments) == 128 + signal.SIGTERM
    path = tmp_path / "digits" / "checkpoint" / LATEST
    between = load_checkpoint(path)
    assert (between["epoch"], between["step"]) == (1, 0)
    assert between["history"]["epochs"] == 2
    assert between["clean"] is not None
    assert ASD.main(arguments) == 0
    history = load_checkpoint(path)["history"]
    assert noted[0] == history["epochs"] == 3
    assert int(history["polluted"].max()) <= 3

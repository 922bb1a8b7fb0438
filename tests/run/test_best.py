"""`best_model.pt` is the model of the first epoch with the highest ACC that was tested."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import ASD
from run import session
from run.checkpoint import BEST, LATEST, load_checkpoint
from run.measure import Score

ACCS = [0.25, 0.75, 0.5, 0.75, 0.125, 0.625, 0.5, 0.375, 0.25]  # of the nine epochs


def test_the_best_model_is_the_first_of_the_highest_acc(
    tmp_path: Path, tiny_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter(ACCS)

    def falling(*_: Any) -> Score:
        return Score(next(measured, ACCS[-1]), 0.5)

    monkeypatch.setattr(session, "evaluate", falling)
    assert ASD.main(tiny_arguments) == 0
    run = tmp_path / "digits"
    with (run / "log.csv").open() as file:
        logged = [float(row["acc"]) for row in csv.DictReader(file)]
    assert logged == ACCS
    result = json.loads((run / "result.json").read_text())
    assert (result["best_acc"], result["best_epoch"]) == (0.75, 1)
    assert load_checkpoint(run / "checkpoint" / BEST)["epoch"] - 1 == 1
    assert load_checkpoint(run / "checkpoint" / LATEST)["epoch"] == len(ACCS)

"""Each column of `suspects.csv` says what the page says of it."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import torch

from defense.history import History
from report.findings import Findings, Opinion
from report.suspects import FILE_NAME, write_suspects
from tests.report.report_example import COUNT, STAGES, make_findings
from utils.files import PROJECT
from witness.hearing import Testimony
from witness.witness import Statement

INDEX = 6  # the sample that is the worst
PAGES = [PROJECT / "docs" / name for name in ("report-and-verdict.md", "tools.md")]


def filled(value: float) -> torch.Tensor:
    """Return (COUNT,) float32: `value` at the worst sample, other values elsewhere."""
    values = torch.linspace(0.01, 0.02, COUNT)
    values[INDEX] = value
    return values


def findings_of_one() -> Findings:
    """Findings in which every figure of the worst sample differs from all others of it."""
    plain, count = make_findings(), torch.arange(COUNT)
    predicted = plain.training.labels.clone()
    predicted[INDEX] = 3
    polluted = torch.where(count == INDEX, 7, 2).short()
    losses = {stage: filled(1.5 + place) for place, stage in enumerate(STAGES)}
    vetoed = count == INDEX
    said = {
        "pattern": Statement(filled(11.5), vetoed),
        "filtered": Statement(filled(12.5), ~vetoed),
        "patch": Statement(filled(13.5), vetoed),
    }
    return replace(
        plain,
        training=replace(plain.training, files=tuple(f"train/{i}.png" for i in range(COUNT))),
        opinion=Opinion(predicted, filled(0.75), filled(0.125)),
        history=History(9, polluted, losses, [filled(5.0), filled(6.0)]),
        score=filled(0.875),
        kept=~vetoed,
        poisoned=vetoed,
        testimony=Testimony(said, vetoed),
    )


def first_row(folder: Path) -> dict[str, str]:
    write_suspects(findings_of_one(), folder)
    with (folder / FILE_NAME).open(newline="", encoding="utf-8-sig") as file:
        return next(csv.DictReader(file))


def test_a_row_holds_every_figure_of_its_sample(tmp_path: Path) -> None:
    assert first_row(tmp_path) == {
        "rank": "1",
        "file": "train/6.png",
        "index": "6",
        "label": "class 2",
        "predicted": "class 3",
        "probability": "0.75",
        "score": "0.875",
        "given_probability": "0.125",
        "loss_class_aware": "1.5",
        "loss_class_agnostic": "2.5",
        "loss_meta_split": "3.5",
        "reduction": "5.5",
        "polluted_epochs": "7",
        "witness_pattern": "11.5",
        "witness_filtered": "12.5",
        "witness_patch": "13.5",
        "vetoed_by": "pattern patch",
        "kept": "0",
        "poisoned": "1",
        "given_label": "class 2",
        "predicted_label": "class 3",
        "is_label_issue": "True",
        "label_quality": "0.125",
    }


def test_the_pages_name_all_columns_and_no_other(tmp_path: Path) -> None:
    page, tools = (path.read_text(encoding="utf-8") for path in PAGES)
    table = page.partition("## The columns of suspects.csv")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall("`(.+?)`", cell)}
    of_cleanlab = tools.partition("`suspects.csv` has the columns that cleanlab's users know:")[2]
    named |= set(re.findall("`(.+?)`", of_cleanlab.partition(" (low is bad")[0]))
    written = {
        re.sub("^loss_.+", "loss_<stage>", re.sub("^witness_.+", "witness_<name>", column))
        for column in first_row(tmp_path)
    }
    assert written == named

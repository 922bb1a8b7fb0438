"""A small run's findings, made by hand, for the tests of the reports."""

from __future__ import annotations

from typing import Any

import torch

from data.poison import TrainingSet
from defense.history import History
from report.content import PageContent
from report.findings import Findings, Opinion
from report.verdict import Verdict
from run.standing import Standing
from tests.conftest import colourful_images

COUNT = 40
STAGES = ("class-aware", "class-agnostic", "meta-split")


def make_findings(
    truth: bool = True, splits: bool = True, num_classes: int = 4, size: int = 8
) -> Findings:
    """Return findings of 40 samples: 0 to 4 are the most suspicious, and all but 4 are poisoned."""
    labels = torch.arange(COUNT) % num_classes
    predicted = labels.clone()
    predicted[:5] = (labels[:5] + 1) % num_classes
    score = torch.linspace(1, 0, COUNT)
    poisoned = torch.zeros(COUNT, dtype=torch.bool)
    poisoned[[0, 1, 2, 3, 9]] = True
    losses = {stage: torch.linspace(4, 0.01, COUNT) for stage in STAGES}
    history = History()
    if splits:
        polluted = torch.full((COUNT,), 3, dtype=torch.int16)
        history = History(6, polluted, losses, [torch.linspace(2, 0, COUNT)])
    probability = torch.full((COUNT,), 0.75)
    return Findings(
        training=TrainingSet(
            colourful_images(COUNT, size), labels, tuple(f"class {i}" for i in range(num_classes))
        ),
        opinion=Opinion(predicted, probability, 1 - probability),
        history=history,
        seeds=torch.arange(30, 36),
        contradiction=score.double(),
        score=score,
        kept=score < 0.5,
        poisoned=poisoned if truth else None,
    )


def make_rows(truth: bool = True) -> list[dict[str, Any]]:
    """Return the log of six epochs, two of each stage; ACC is measured in every other one."""
    rows = []
    for epoch in range(6):
        row: dict[str, Any] = {"epoch": epoch, "stage": STAGES[epoch // 2], "loss": 2.0 - epoch / 5}
        row |= {"loss_x": 1.5, "loss_u": 0.01, "clean_pool": 10 + epoch}
        if truth:
            row |= {"poisoned_in_clean_pool": epoch // 3, "tpr": 0.9, "fpr": 0.5, "auroc": 0.95}
        row["acc"] = 0.8 - epoch / 100 if epoch % 2 else None
        if truth:
            row["asr"] = 0.25 if epoch % 2 else None
        rows.append({**row, "seconds": 2.0, "images_per_second": 100.0})
    return rows


def make_content(truth: bool = True, **changes: Any) -> PageContent:
    """Return what the page of a finished run is made from."""
    manifest = {"seed": 7, "attack": "badnets" if truth else "none", "poisoned_samples": 5}
    content = {
        "findings": make_findings(truth),
        "verdict": Verdict("cannot_tell", None, 0, {"largest_share": 0.5}, ("It is open.",)),
        "result": {"defense": "asd", "dataset": "digits", "acc": 0.75, "asr": 0.25},
        "rows": make_rows(truth),
        "config": {"num_epochs": 6, "dataset": "digits"},
        "manifest": {**manifest, "poisoned_indices": [0, 1, 2, 3, 9]},
        "title": "Report of the run example",
        "standing": Standing(6, 6),
    }
    return PageContent(**{**content, **changes})

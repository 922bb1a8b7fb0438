"""`purified.txt`: the samples that may be kept."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data.review import Review
from report.findings import Findings, Opinion
from utils.files import write_text
from witness.hearing import NOBODY, Testimony


def may_be_kept(
    opinion: Opinion, labels: Tensor, seeds: Tensor, review: Review, testimony: Testimony = NOBODY
) -> Tensor:
    """Return which samples may be kept, (N,) bool.

    Those whose given label is the one that the model gives by itself: it learnt that label from
    others, without a trigger. What a witness vetoes is not kept. A verified sample is, and one
    that a person called poisoned is not, whatever model and witnesses say.
    """
    kept = opinion.predicted == labels
    if len(testimony.vetoed):
        kept &= ~testimony.vetoed
    kept[seeds] = True
    return review.applied_to(kept, True, False)


def write_purified(findings: Findings, path: Path) -> None:
    """Write `purified.txt` to `path`, one file or number a line."""
    names = [findings.name(index) for index in torch.nonzero(findings.kept).flatten().tolist()]
    write_text(path, "".join(f"{name}\n" for name in names))

"""Given labels against the model's own: as a matrix or, of many classes, its largest cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from report.findings import Findings

PAIRS = 30  # of labels, where the matrix is not shown


@dataclass(frozen=True)
class Pair:
    """Samples of one given label for which the model has another label of its own."""

    given: str
    own: str
    count: int
    share: float  # of the samples with that given label


def label_matrix(findings: Findings) -> Tensor:
    """Return (C, C) int64: samples by given label (row) and the model's own label (column)."""
    classes = findings.training.num_classes
    cells = findings.training.labels.cpu() * classes + findings.opinion.predicted
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def largest_pairs(matrix: Tensor, classes: tuple[str, ...]) -> list[Pair]:
    """Return the largest cells beside the diagonal, the largest first."""
    others = matrix.clone().fill_diagonal_(0).flatten()
    found = []
    for cell in others.argsort(descending=True, stable=True)[:PAIRS].tolist():
        given, own = divmod(cell, len(classes))
        count = int(others[cell])
        if count:
            share = count / int(matrix[given].sum())
            found.append(Pair(classes[given], classes[own], count, share))
    return found


def matrix_rows(matrix: Tensor, classes: tuple[str, ...]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the matrix for the template: each row's name, and count and share of its cells."""
    rows = []
    for label, counts in enumerate(matrix.tolist()):
        total = max(sum(counts), 1)
        cells = [
            {"count": count, "share": count / total, "is_own": label == column}
            for column, count in enumerate(counts)
        ]
        rows.append((classes[label], cells))
    return rows

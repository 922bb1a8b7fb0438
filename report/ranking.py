"""The samples in order of suspicion: which ones to look at first, and what to say of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from report.findings import Findings


@dataclass(frozen=True)
class Suspect:
    """A training sample as people are told of it.

    Attributes:
        index: its place in the training set.
        rank: from 1, the most suspicious first.
        name: its file, or its index as text.
        label, given: the given label and its class name.
        predicted, own: the label that the model gives it and that class's name.
        probability: that the model gives to its own label.
        score: 0..1, high is suspicious.
        poisoned: the truth; None where nobody knows it.
    """

    index: int
    rank: int
    name: str
    label: int
    given: str
    predicted: int
    own: str
    probability: float
    score: float
    poisoned: bool | None


class Ranking:
    """The order of suspicion, sorted once for all that ask for it.

    Args:
        findings: of the run.
    """

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.order = findings.order
        self.labels = findings.training.labels.cpu()
        self.ranks = torch.empty_like(self.order)  # (N,) int64, from 1
        self.ranks[self.order] = torch.arange(1, len(self.order) + 1)

    def worst(self, count: int) -> list[Suspect]:
        """Return the `count` most suspicious samples."""
        return self.describe(self.order[:count].tolist())

    def worst_by_class(self, count: int, most: int) -> list[tuple[str, list[Suspect]]]:
        """Return the `count` most suspicious samples of each given label, with the class's name.

        Args:
            count: of samples in a class.
            most: of classes; those whose worst samples are the most suspicious come first.
        """
        classes = self.findings.training.classes
        ordered = self.labels[self.order]
        first = torch.full((len(classes),), len(ordered))
        first.scatter_reduce_(0, ordered, torch.arange(len(ordered)), "amin")
        found = []
        for label in first.argsort(stable=True)[:most].tolist():
            members = self.order[ordered == label][:count]
            if len(members):
                found.append((classes[label], self.describe(members.tolist())))
        return found

    def describe(self, indices: Iterable[int]) -> list[Suspect]:
        """Return what is to be said of the samples `indices`."""
        return [self._describe(index) for index in indices]

    def _describe(self, index: int) -> Suspect:
        findings, classes = self.findings, self.findings.training.classes
        label, predicted = int(self.labels[index]), int(findings.opinion.predicted[index])
        truth = findings.poisoned
        return Suspect(
            index=index,
            rank=int(self.ranks[index]),
            name=findings.name(index),
            label=label,
            given=classes[label],
            predicted=predicted,
            own=classes[predicted],
            probability=float(findings.opinion.probability[index]),
            score=float(findings.score[index]),
            poisoned=None if truth is None else bool(truth[index]),
        )

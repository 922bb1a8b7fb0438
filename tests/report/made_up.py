"""Findings on a made-up set of which the truth is known, for the tests of score and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from data.poison import TrainingSet
from data.review import Review
from defense.defense import Pools
from defense.history import History
from report.examine import gather
from report.findings import Findings, Opinion
from tests.conftest import colourful_images
from witness.hearing import Testimony
from witness.witness import Statement

NOBODY = Review(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


def made_up(
    poisoned_from: int, targets: tuple[int, ...] = (3,), classes: int = 10, count: int = 1000
) -> Findings:
    """A set of `count` samples in which the last, from `poisoned_from` on, have a target's label.

    These have the highest losses, are labelled with the `targets` in turn, and look like any class.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    labels[poisoned_from:] = torch.tensor(targets).repeat(count)[: count - poisoned_from]
    poisoned = torch.arange(count) >= poisoned_from
    loss = torch.rand(count, generator=generator) + 3 * poisoned
    wrong = poisoned | (torch.rand(count, generator=generator) < 0.02)
    predicted = torch.where(wrong, spread(labels, classes), labels)
    chosen = torch.full((count,), 0.9)
    opinion = Opinion(predicted, chosen, torch.where(wrong, 0.02, 0.9) - loss / 1000)
    history = History()
    for stage in ("class-aware", "class-agnostic", "meta-split"):
        reduction = loss if stage == "meta-split" else None
        history.note(stage, Pools(loss < loss.median(), loss, reduction))
    names = tuple(f"class {i}" for i in range(classes))
    files = tuple(f"train/{i:04}.png" for i in range(count))
    training = TrainingSet(colourful_images(count, 4), labels, names, files=files)
    seeds = torch.arange(0, min(poisoned_from, 1000), 47)  # of all classes
    return gather(training, opinion, history, seeds, NOBODY)


def clean() -> Findings:
    """A set without poison that is large enough for an all-clear."""
    return made_up(10_000, count=10_000)


def renewed(findings: Findings) -> Findings:
    """Gather again what follows from what the model and the splits say, after a change of it."""
    return gather(findings.training, findings.opinion, findings.history, findings.seeds, NOBODY)


def rearranged(findings: Findings, seed: int) -> Findings:
    """The same set with the samples in another order and other numbers for the classes."""
    generator = torch.Generator().manual_seed(seed)
    training, opinion, history = findings.training, findings.opinion, findings.history
    order = torch.randperm(len(training), generator=generator)
    number = torch.randperm(training.num_classes, generator=generator)
    names = tuple(training.classes[old] for old in number.argsort().tolist())
    files = tuple(training.name(index) for index in order.tolist())
    return gather(
        TrainingSet(training.images, number[training.labels][order], names, files=files),
        Opinion(number[opinion.predicted][order], opinion.probability[order], opinion.given[order]),
        History(
            history.epochs,
            None if history.polluted is None else history.polluted[order],
            {stage: loss[order] for stage, loss in history.losses.items()},
            [reduction[order] for reduction in history.reductions],
        ),
        order.argsort()[findings.seeds],
        NOBODY,
    )


def spread(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Own labels that all differ from the given ones, and in as many ways as there are."""
    return (labels + 1 + torch.arange(len(labels)) % (classes - 1)) % classes


def with_witness(
    findings: Findings, vetoed: torch.Tensor, accused: Mapping[int, float]
) -> Findings:
    """The same findings with a witness who vetoes (N,) bool and accuses classes."""
    said = Statement(20.0 * vetoed, vetoed, accused)
    testimony = Testimony({"unverified_group": said}, vetoed, torch.zeros(len(vetoed)))
    return replace(findings, testimony=testimony)

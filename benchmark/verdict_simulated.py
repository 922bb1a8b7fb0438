"""Simulated runs for the verdict: labels as a kind has them, signals as recorded runs had them.

A simulated sample takes all its signals together (probabilities, losses of the splits, loss
reduction) from one recorded sample of its group: the model agrees with its label; the model errs;
its label is wrong and the model contradicts it; its label is wrong and the model believes it. What
a recorded run does not tell is drawn anew for each simulated one: how often the model errs, which
classes are hard, which are confused with which, and how much of the wrong labels it believes.
Findings and verdict come from the project's own functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.verdict_kinds import (
    EVERY_KIND,
    Flags,
    Integers,
    Kind,
    Labels,
    class_sizes,
    mislabel,
)
from data.poison import TrainingSet
from data.review import Review
from defense.history import History
from report.examine import gather
from report.findings import Findings, Opinion

ERROR = 0.003, 0.08  # share of the samples at which a model errs; log-uniform between
HARDNESS = 0.4, 1.2  # standard deviation of the logarithm of a class's error rate
CONFUSIONS = 0.5  # of Dirichlet: the less, the fewer classes a class is confused with
BELIEVED = 0.0, 0.15  # share of the wrong labels that the model believes
JITTER = 0.1  # standard deviation of the logarithm of each loss
CONFIDENT_SCALE, CONFIDENT_POWER = 1e-2, 2.0  # from losses to those of a very confident model
SEEDS_OF_A_CLASS = 10
Floats = NDArray[np.float32]
NOBODY = Review(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Recording:
    """What a real run said of its samples (N,), and the truth.

    Attributes:
        losses: (N, S) float32: of the final model for the given label, then of each stage's last
            split, then the loss reduction.
        stages: names of the S - 2 stages.
        groups: (N,) int64, a `Group`.
    """

    losses: Floats
    stages: tuple[str, ...]
    groups: Integers


AGREES, ERRS, CONTRADICTS, BELIEVES = range(4)  # groups of samples


def group_samples(labels: Integers, predicted: Integers, true: Integers) -> Integers:
    """Return the group of each sample, (N,) int64."""
    wrong, own = labels != true, predicted != labels
    groups = np.where(wrong, np.where(own, CONTRADICTS, BELIEVES), np.where(own, ERRS, AGREES))
    return groups.astype(np.int64)


def read_recording(path: Path) -> Recording:
    """Return a run that `benchmark.verdict_real` has recorded."""
    with np.load(path) as file:
        found = {key: file[key] for key in file.files}
    stages = tuple(key.removeprefix("loss_") for key in found if key.startswith("loss_"))
    given = -np.log(np.maximum(found["given_probability"], 1e-30))
    columns = [given, *(found[f"loss_{stage}"] for stage in stages), found["reduction"]]
    labels, predicted, true = (found[k].astype(np.int64) for k in ("labels", "predicted", "true"))
    return Recording(
        np.stack(columns, axis=1).astype(np.float32),
        stages,
        group_samples(labels, predicted, true),
    )


def replay(path: Path) -> tuple[Kind, dict[str, Any], Findings, Labels]:
    """Return kind, seed and accuracy, findings and truth of a recorded run."""
    recording = read_recording(path)
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        labels, predicted, true = (
            file[key].astype(np.int64) for key in ("labels", "predicted", "true")
        )
        poisoned, checked = file["poisoned"], np.flatnonzero(file["seeds"])
    kind = next(kind for kind in EVERY_KIND if kind.name == about["kind"])
    targets = labels[poisoned] if kind.poison else labels[labels != true] if kind.default else []
    truth = Labels(true, labels, poisoned, tuple(np.unique(targets).astype(int).tolist()))
    findings = as_findings(kind, truth, predicted, recording.losses, recording.stages, checked)
    return kind, about, findings, truth


def simulate(
    kind: Kind, count: int, seed: int, recordings: Sequence[Recording]
) -> tuple[Findings, Labels]:
    """Return the findings on a simulated set of the kind, and its truth.

    Args:
        kind: of the set.
        count: about how many samples.
        seed: all draws are a function of it, the kind and the count.
        recordings: of real runs; each group's signals come from one that has enough of the group.
    """
    generator = np.random.default_rng([seed, count, *kind.name.encode()])
    sizes = class_sizes(kind, count)
    true = np.repeat(np.arange(kind.classes), sizes)
    labels = mislabel(kind, true, generator)
    predicted = own_labels(kind, labels, generator)
    groups = group_samples(labels.given, predicted, true)
    signals = draw_signals(groups, recordings, generator)
    if kind.confident:
        signals = grown_confident(signals, groups)
    order = np.argsort(labels.given, kind="stable") if kind.in_class_order else None
    if order is None:
        order = generator.permutation(len(true))
    labels = Labels(true[order], labels.given[order], labels.poisoned[order], labels.targets)
    predicted, stages = predicted[order], recordings[0].stages
    checked = verified(labels, predicted == labels.given)
    return as_findings(kind, labels, predicted, signals[order], stages, checked), labels


def own_labels(kind: Kind, labels: Labels, generator: np.random.Generator) -> Integers:
    """Return what the model says of each sample, (N,) int64.

    That is the true label, but for errors, and for wrong labels that it believes. It errs on few
    classes more than on others, and takes them for few others.
    """
    low, high = ERROR
    error = math.exp(generator.uniform(math.log(low), math.log(high)))
    hard = np.exp(generator.uniform(*HARDNESS) * generator.standard_normal(kind.classes))
    chance = np.minimum(error * hard / hard.mean(), 0.5)
    own = labels.true.copy()
    for label in range(kind.classes):
        likely = generator.dirichlet(np.full(kind.classes - 1, CONFUSIONS))
        others = np.delete(np.arange(kind.classes), label)
        members = np.flatnonzero(labels.true == label)
        erring = members[generator.random(len(members)) < chance[label]]
        own[erring] = generator.choice(others, len(erring), p=likely)
    wrong = labels.given != labels.true
    believed = wrong & (generator.random(len(own)) < generator.uniform(*BELIEVED))
    own[believed] = labels.given[believed]
    return own


def draw_signals(
    groups: Integers, recordings: Sequence[Recording], generator: np.random.Generator
) -> Floats:
    """Return the signals of samples of these groups, (N, S) as in `Recording`."""
    found = np.empty((len(groups), recordings[0].losses.shape[1]), dtype=np.float32)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        pools = [recording.losses[recording.groups == group] for recording in recordings]
        if not any(map(len, pools)):  # where no label was believed: that looks like a right one
            pools = [recording.losses[recording.groups == AGREES] for recording in recordings]
        full = [pool for pool in pools if len(pool) >= 5] or [np.concatenate(pools)]
        pool = full[generator.integers(len(full))]
        found[members] = pool[generator.integers(len(pool), size=len(members))]
    noise = np.exp(JITTER * generator.standard_normal(found.shape))
    return (found * noise).astype(np.float32)


def grown_confident(signals: Floats, groups: Integers) -> Floats:
    """Return the signals of a very confident model: what is low becomes far lower."""
    lower = CONFIDENT_SCALE * np.abs(signals) ** CONFIDENT_POWER
    agrees = np.isin(groups, (AGREES, BELIEVES))[:, None]
    return np.where(agrees, np.minimum(lower, signals), 2 * signals).astype(np.float32)


def as_findings(
    kind: Kind,
    labels: Labels,
    predicted: Integers,
    signals: Floats,
    stages: Sequence[str],
    checked: Integers,
) -> Findings:
    """Return the findings that the project's own functions make of the signals."""
    given = torch.from_numpy(np.exp(-signals[:, 0]))
    own = torch.from_numpy(predicted)
    agrees = own == torch.from_numpy(labels.given)
    probability = torch.where(agrees, given, 1 - given)
    columns = [torch.from_numpy(column.copy()) for column in signals.T[1:]]
    history = History(1, None, dict(zip(stages, columns, strict=False)), [columns[-1]])
    names = tuple(f"class {label}" for label in range(kind.classes))
    images = torch.zeros(len(predicted), 1, 1, 3, dtype=torch.uint8)
    training = TrainingSet(images, torch.from_numpy(labels.given), names)
    opinion, seeds = Opinion(own, probability, given), torch.from_numpy(checked)
    return gather(training, opinion, history, seeds, NOBODY)


def verified(labels: Labels, agrees: Flags) -> Integers:
    """Return samples that somebody has checked: of each class the first ones with a right label.

    The model is trained on them from the start, so it agrees with nearly all.
    """
    found = []
    for label in np.unique(labels.given):
        right = (labels.given == label) & (labels.true == label)
        found.append(np.flatnonzero(right & agrees)[:SEEDS_OF_A_CLASS])
    return np.concatenate(found).astype(np.int64)

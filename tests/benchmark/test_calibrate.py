"""The sets that the verdict is calibrated on are what they are called, and the results are kept."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from benchmark.calibrate import RECORDED, bar, next_step
from benchmark.verdict_kinds import CLEAN, EVERY_KIND, POISONED, Kind, class_sizes, halves, mislabel
from benchmark.verdict_measure import interval, measure, rates
from benchmark.verdict_simulated import Recording, read_recording, simulate
from report.judge import read_thresholds


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [read_recording(path) for path in sorted(RECORDED.glob("*.npz"))]


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
def test_a_kind_has_the_wrong_labels_that_it_says(kind: Kind) -> None:
    sizes = class_sizes(kind, 10_000)
    true = np.repeat(np.arange(kind.classes), sizes)
    labels = mislabel(kind, true, np.random.default_rng(0))
    assert max(sizes) == pytest.approx(kind.imbalance * min(sizes), rel=0.05)
    assert labels.poisoned.mean() == pytest.approx(kind.poison, abs=1e-3)
    assert len(set(labels.targets)) == (kind.targets if kind.poison or kind.default else 0)
    assert set(labels.given[labels.poisoned]) <= set(labels.targets)
    assert (labels.given != labels.true)[labels.poisoned].all()
    counts = Counter(labels.given[labels.poisoned].tolist()).values()
    assert not counts or max(counts) - min(counts) <= 1
    wrong = (labels.given != labels.true).mean()
    expected = kind.poison + kind.noise + kind.default + kind.confused / kind.classes
    assert wrong == pytest.approx(expected, abs=0.01)


def test_names_are_of_one_kind_each_and_kinds_cover_the_issue() -> None:
    assert len({kind.name for kind in EVERY_KIND}) == len(EVERY_KIND)
    assert len(CLEAN) == 10 and {2, 3, 43, 100} <= {kind.classes for kind in CLEAN}
    assert {(k.poison, k.targets) for k in POISONED} == {
        (poison, targets) for poison in (0.005, 0.01, 0.05) for targets in (1, 2, 3)
    }


def test_a_simulated_run_is_a_function_of_its_seed(recordings: list[Recording]) -> None:
    first, truth = simulate(POISONED[3], 1000, 5, recordings)
    again, _ = simulate(POISONED[3], 1000, 5, recordings)
    other, _ = simulate(POISONED[3], 1000, 6, recordings)
    assert torch.equal(first.score, again.score) and not torch.equal(first.score, other.score)
    assert len(first) == 1000 and truth.poisoned.sum() == 10
    assert not truth.poisoned[first.seeds.numpy()].any()


def test_the_confident_model_is_confident_and_the_order_is_that_of_the_classes(
    recordings: list[Recording],
) -> None:
    kind = next(kind for kind in CLEAN if kind.confident)
    findings, _ = simulate(kind, 1000, 0, recordings)
    for loss in findings.history.losses.values():
        assert 0 < loss.median() < 1e-3
    assert (findings.training.labels.diff() >= 0).all()


def test_halves_share_no_seed() -> None:
    setting, testing = halves(range(7))
    assert setting == [0, 1, 2, 3] and testing == [4, 5, 6]


def test_rates_and_bars_count_runs(recordings: list[Recording]) -> None:
    limits, runs = read_thresholds(), []
    for count in (5_000, 10_000):
        for kind in CLEAN[:2]:
            findings, labels = simulate(kind, 500, 0, recordings)
            runs.append(measure(kind, count, 0, findings, labels, limits))
    found = rates(runs)
    assert found["all"]["runs"] == found["all clean"]["runs"] == 4
    assert found["all"]["cannot_tell"] == 4  # sets of 500 are too small for anything else
    assert [(run.kind.name, run.count) for run in bar(runs, CLEAN)] == [
        (kind.name, count) for count in (5_000, 10_000) for kind in CLEAN[:2]
    ]
    assert interval(0, 20) == [0.0, 0.161] and interval(10, 20) == [0.299, 0.701]
    assert next_step(0.5) == 0.55 and next_step(0.31) == 0.35

"""Real sets are what their kind says, and what is counted of a run is its verdict."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.calibrate import RECORDED
from benchmark.verdict_kinds import CLEAN, POISONED, Kind
from benchmark.verdict_rates import counts, read_record, row_of
from benchmark.verdict_real import signals
from benchmark.verdict_sets import SIDE, TRIGGER, Stock, digits, draw, true_classes, write_set
from benchmark.verdict_simulated import read_recording, simulate
from report.accusations import accusations_of
from report.judge import judge
from witness import hearing
from witness.witness import Statement


@pytest.fixture(scope="module")
def stock() -> Stock:
    """Images of one grey each, the class's number, so that a look tells the true class."""
    sizes = (300, 120, *[60] * 8)
    each = [np.full((n, SIDE, SIDE, 3), number, dtype=np.uint8) for number, n in enumerate(sizes)]
    return Stock(each, [images[:30] for images in each])


@pytest.mark.parametrize("kind", [POISONED[8], CLEAN[1], CLEAN[3]], ids=lambda kind: kind.name)
def test_a_set_is_what_its_truth_says(kind: Kind, stock: Stock, tmp_path: Path) -> None:
    truth = write_set(kind, 0, stock, tmp_path)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")]
    assert {name for name in files if not name.startswith("test/")} == set(truth)
    training = [name for name in truth if name.startswith("train/")]
    poisoned = [name for name, (_, is_poisoned) in truth.items() if is_poisoned]
    assert len(poisoned) == round(kind.poison * len(training)) and set(poisoned) <= set(training)
    for name, (true, is_poisoned) in truth.items():
        pixels = np.asarray(Image.open(tmp_path / name))
        assert pixels[0, 0, 0] == true
        assert (pixels[-4:-1, -4:-1, 0] == TRIGGER).all() == is_poisoned
    wrong = sum(int(Path(name).parent.name) != truth[name][0] for name in training)
    assert wrong == round((kind.poison + kind.noise) * len(training))


def test_no_set_has_an_image_twice(stock: Stock) -> None:
    two = Counter(true_classes(CLEAN[3], stock.training).tolist())
    assert two == {0: 120, 1: 120}
    steep = Counter(true_classes(CLEAN[7], stock.training).tolist())
    assert all(steep[label] <= len(stock.training[label]) for label in range(10))
    assert 18 < steep[0] / steep[9] < 24  # 20, but for whole images


def test_numbers_of_two_figures_are_two_digits() -> None:
    stock = digits()
    found = draw(stock.training, np.repeat([7, 42], 100), np.random.default_rng(0))
    assert found.shape == (200, 16, 16, 3)
    assert len(np.unique(found.reshape(200, -1), axis=0)) == 200
    used = {image.tobytes() for part in stock.training for image in part}
    assert not used & {image.tobytes() for part in stock.held_out for image in part}


@pytest.mark.parametrize("heard", [False, True])
def test_a_recorded_run_is_judged_as_the_run_was(heard: bool, tmp_path: Path) -> None:
    recordings = [read_recording(path) for path in sorted(RECORDED.glob("*.npz"))]
    findings, truth = simulate(POISONED[6], 4000, 3, recordings)
    if heard:
        vetoed = torch.from_numpy(truth.poisoned)
        said = Statement(vetoed.float(), vetoed, {truth.targets[0]: 0.8})
        findings = replace(findings, testimony=hearing.Testimony({"pipd": said}, vetoed))
    verdict = judge(findings, accusations_of(findings))
    about = {"kind": POISONED[6].name, "seed": 3, "acc": 1, "seconds": 1, "git_commit": "x"}
    about |= {"verdict": verdict.name, "device": "a CPU", "versions": {}}
    arrays = {"true": truth.true, "poisoned": truth.poisoned, "about": json.dumps(about)}
    np.savez(tmp_path / "a.npz", **signals(findings), **arrays)
    row = row_of(read_record(tmp_path / "a.npz"))
    assert row["outcome"].startswith(verdict.name) and len(row["accused"]) == len(verdict.targets)
    assert row["estimated"] == verdict.estimated_poisoned
    assert row["broad_concentration"] == round(verdict.statistics["broad_concentration"], 3)
    assert len(row["by_witness"]) == heard and row["poisoned"] == truth.poisoned.sum()
    assert counts([row])["poisoned"] == {
        "runs": 1,
        row["outcome"]: 1,
        "poisoned_interval": [0.207, 1.0] if verdict.name == "poisoned" else [0.0, 0.793],
    }

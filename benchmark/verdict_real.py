"""Real runs for the verdict: digits in folders, labelled as a kind has it, trained by `ASD.py`.

    python -m benchmark.verdict_real FOLDER [--seeds 100 101 ...] [--kinds NAME ...]

Each run trains on `config/own_data.yaml`, as a user's does, and leaves one small `.npz` in FOLDER
with what the run says of each sample and the truth, from which `benchmark.calibrate` judges. Runs
that are there are not repeated, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.verdict_kinds import (
    EVERY_KIND,
    Integers,
    Kind,
    Labels,
    class_sizes,
    mislabel,
)
from run.versions import git_commit
from utils.console import say
from utils.files import PROJECT

COUNT = 1300  # training samples, before the verified ones
SEEDS_OF_A_CLASS = 12
TESTED = 300  # images that measure ACC
SIDE = 16  # pixels
Images = NDArray[np.uint8]


def draw_images(classes: Integers, num_classes: int, generator: np.random.Generator) -> Images:
    """Return an image of each of `classes` (n,), (n, 16, 16): a digit, or two where there are more.

    No image comes twice as long as there are others.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pools = {digit: Pool(digits.images[digits.target == digit], generator) for digit in range(10)}
    return np.stack(
        [
            enlarge(pools[label].take())
            if num_classes <= 10
            else beside(pools[label // 10].take(), pools[label % 10].take())
            for label in classes
        ]
    )


class Pool:
    """Images of one digit, dealt out in turn."""

    def __init__(self, images: NDArray[np.float64], generator: np.random.Generator) -> None:
        self.images = images[generator.permutation(len(images))]
        self.next = 0

    def take(self) -> NDArray[np.float64]:
        """Return the next image, (8, 8) in 0..16; after the last the first."""
        self.next += 1
        return self.images[(self.next - 1) % len(self.images)]


def enlarge(image: NDArray[np.float64]) -> Images:
    """Return (8, 8) in 0..16 as (16, 16) uint8."""
    return np.kron(np.minimum(image * 15.9, 255), np.ones((2, 2))).astype(np.uint8)


def beside(left: NDArray[np.float64], right: NDArray[np.float64]) -> Images:
    """Return two digits side by side as (16, 16) uint8, a number of two figures."""
    return np.kron(np.minimum(np.hstack([left, right]) * 15.9, 255), np.ones((2, 1))).astype(
        np.uint8
    )


def write_set(kind: Kind, seed: int, folder: Path) -> dict[str, tuple[int, bool]]:
    """Write train/, seeds/ and test/; return true class and poison of each training file."""
    generator = np.random.default_rng([seed, *kind.name.encode()])
    sizes = class_sizes(kind, COUNT)
    true = np.repeat(np.arange(kind.classes), sizes)
    # Few samples of one class cannot give many seeds; at least two are wanted for a median.
    checked = np.repeat(
        np.arange(kind.classes), [min(SEEDS_OF_A_CLASS, max(2, s // 4)) for s in sizes]
    )
    tested = np.repeat(np.arange(kind.classes), max(1, TESTED // kind.classes))
    drawn = draw_images(np.concatenate([true, checked, tested]), kind.classes, generator)
    labels = mislabel(kind, true, generator)
    drawn[: len(true)][labels.poisoned, -4:-1, -4:-1] = 255  # the trigger
    truth = write_images(folder / "train", drawn[: len(true)], labels)
    parts = np.split(drawn[len(true) :], [len(checked)])
    for name, classes, images in zip(("seeds", "test"), (checked, tested), parts, strict=True):
        plain = Labels(classes, classes, np.zeros(len(classes), dtype=np.bool_), ())
        found = write_images(folder / name, images, plain)
        truth |= found if name == "seeds" else {}
    return truth


def write_images(folder: Path, images: Images, labels: Labels) -> dict[str, tuple[int, bool]]:
    """Write images into folders of their given labels; return the truth by file."""
    truth = {}
    for index, image in enumerate(images):
        path = folder / f"{labels.given[index]:02}" / f"{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        name = path.relative_to(folder.parent).as_posix()
        truth[name] = int(labels.true[index]), bool(labels.poisoned[index])
    return truth


def train(kind: Kind, seed: int, folder: Path) -> None:
    """Run ASD on the set in `folder`, at the lowest priority, with a report."""
    command = [sys.executable, "ASD.py", "--config", "config/own_data.yaml", "--gpu", "cpu"]
    command += [f"dataset_dir={folder}", f"storage_dir={folder / 'storage'}", "report=true"]
    command += [f"seed.seed={seed}", "--name", "run"]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def record(
    kind: Kind, seed: int, folder: Path, truth: dict[str, tuple[int, bool]]
) -> dict[str, Any]:
    """Return all that the run says of each sample, and the truth, as arrays of N."""
    run = folder / "storage" / "run"
    with (run / "report" / "suspects.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    classes = sorted({row["label"] for row in rows} | {row["predicted"] for row in rows})
    numbers = {name: place for place, name in enumerate(classes)}
    result = json.loads((run / "result.json").read_text())
    found: dict[str, Any] = {
        "labels": np.array([numbers[row["label"]] for row in rows], dtype=np.uint8),
        "predicted": np.array([numbers[row["predicted"]] for row in rows], dtype=np.uint8),
        "true": np.array([truth[row["file"]][0] for row in rows], dtype=np.uint8),
        "poisoned": np.array([truth[row["file"]][1] for row in rows]),
        "seeds": np.array([row["file"].startswith("seeds/") for row in rows]),
    }
    for key in rows[0]:
        if key.startswith("loss_") or key in ("probability", "given_probability", "reduction"):
            found[key] = np.array([float(row[key]) for row in rows], dtype=np.float32)
    about = {"kind": kind.name, "seed": seed, "acc": result["acc"], "commit": git_commit()}
    return found | {"about": json.dumps(about)}


def run_one(kind: Kind, seed: int, out: Path) -> None:
    """Make the set, train on it, and leave the record `out`."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        truth = write_set(kind, seed, folder)
        train(kind, seed, folder)
        np.savez_compressed(out, **record(kind, seed, folder, truth))


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--kinds", nargs="+", help="beginnings of their names, in order; or all")
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    names = arguments.kinds or [""]
    wanted = [kind for name in names for kind in EVERY_KIND if kind.name.startswith(name)]
    for seed in arguments.seeds:
        for kind in wanted:
            place = "".join(c if c.isalnum() else "_" for c in kind.name)
            out = arguments.folder / f"{place}_{seed}.npz"
            if not out.exists():
                run_one(kind, seed, out)
                say(f"{out.name}: done")


if __name__ == "__main__":
    main()

"""Real runs for the verdict: images in folders, labelled as a kind has it, trained by `ASD.py`.

    python -m benchmark.verdict_real FOLDER [--seeds 100 101 ...] [--kinds NAME ...]

Each run trains as `benchmark/verdict.yaml` says, from a folder and its verified images alone, as a
user's does, and leaves a small `.npz` in FOLDER with what the run says of each sample, its verdict
and the truth, from which `benchmark.verdict_rates` counts. Runs that are there are not repeated, so
the same command goes on after an interruption. `ASD_DATA_DIR` names the folder that holds `gtsrb`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ASD
from benchmark.verdict_kinds import EVERY_KIND, Kind
from benchmark.verdict_sets import SIGNS, Stock, digits, signs, write_set
from command.arguments import Parser, parse_arguments
from report.accusations import accusations_of, doubts_of, kinds_seen
from report.examine import examine
from report.findings import Findings
from report.judge import judge
from run.session import Session
from run.setup import set_up
from run.versions import git_commit, versions
from utils.console import say
from utils.device import device_name
from utils.errors import InputError, nearest
from utils.files import PROJECT, made_folder, write_atomically
from utils.interrupt import Interrupt
from utils.program import run_program, whole_number

CONFIG = PROJECT / "benchmark" / "verdict.yaml"
# Hardly any mixing, no views, three times as long: the median loss is 1e-4 then, in place of 0.2.
VERY_CONFIDENT = (
    "semi.mixmatch.alpha=0.001",
    "semi.criterion.mixmatch.lambda_u=0.1",
    "transform.train.primary=null",
    "optimizer.Adam.lr=0.005",
    "num_epochs=45",
    "global.epoch_second=45",
    "global.epoch_third=45",
)


def train(kind: Kind, seed: int, folder: Path) -> Session:
    """Train on the set in `folder` with the program's own steps."""
    command = ["--config", str(CONFIG), "--gpu", "cpu", "--name", "run", f"seed.seed={seed}"]
    command += [f"dataset_dir={folder}", f"storage_dir={folder / 'storage'}"]
    command += VERY_CONFIDENT if kind.confident else ()
    with Interrupt() as interrupt:
        session = ASD.prepare(set_up(parse_arguments(command), interrupt))
        ASD.begin(session)
        ASD.train(session, interrupt)
    return session


def signals(findings: Findings) -> dict[str, Any]:
    """Return all that a run says of each of N samples, as arrays (N,)."""
    opinion, history = findings.opinion, findings.history
    found = {
        "labels": findings.training.labels.cpu().numpy().astype(np.uint8),
        "predicted": opinion.predicted.numpy().astype(np.uint8),
        "given_probability": opinion.given.numpy(),
        "seeds": np.isin(np.arange(len(findings)), findings.seeds.cpu().numpy()),
    }
    for stage, loss in history.losses.items():
        found["loss_" + stage.replace("-", "_")] = loss.cpu().numpy().astype(np.float32)
    if findings.reduction is not None:
        found["reduction"] = findings.reduction.cpu().numpy().astype(np.float32)
    for name, said in findings.testimony.statements.items():
        found[f"vetoed_{name}"] = said.vetoed.numpy()
        accused = [[label, strength] for label, strength in said.accused.items()]
        found[f"accused_{name}"] = np.array(accused, dtype=np.float64).reshape(-1, 2)
    return found


def run_one(kind: Kind, seed: int, stock: Stock, out: Path) -> str:
    """Make the set, train on it, and leave the record `out`; return the verdict's first line."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        truth = write_set(kind, seed, stock, folder)
        began = time.perf_counter()
        session = train(kind, seed, folder)
        findings = examine(session)
        accusations, seen = accusations_of(findings), kinds_seen(findings)
        verdict = judge(findings, accusations, seen, doubts_of(findings))
        seconds = time.perf_counter() - began
        names = [findings.name(index) for index in range(len(findings))]
        score = session.last_score or session.evaluate()
    about = {
        "kind": kind.name,
        "seed": seed,
        "acc": score.acc,
        "seconds": round(seconds, 1),
        "git_commit": git_commit(),
        "device": device_name(session.engine.device),
        "versions": versions(),
        **verdict.as_result(),
        "statistics": verdict.statistics,
    }
    true = np.array([truth[name][0] for name in names], dtype=np.uint8)
    poisoned = np.array([truth[name][1] for name in names])
    arrays: dict[str, Any] = {"true": true, "poisoned": poisoned, "about": json.dumps(about)}
    arrays |= signals(findings)
    write_atomically(out, lambda file: np.savez_compressed(file, **arrays))  # half a run is none
    return verdict.lines()[0]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.verdict_real", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=whole_number(0), nargs="+", default=[100])
    parser.add_argument("--kinds", nargs="+", help="beginnings of their names, in order; or all")
    return parser.parse_args(argv)


def kinds_called(names: Sequence[str]) -> list[Kind]:
    """Return the kinds whose names begin with one of `names`, in their order.

    Raises:
        InputError: none begins so.
    """
    found = []
    for name in names:
        called = [kind for kind in EVERY_KIND if kind.name.startswith(name)]
        if not called:
            hint = nearest(name, [kind.name for kind in EVERY_KIND])
            raise InputError(f"--kinds: none begins with {name!r}{hint}")
        found += called
    return found


def run(arguments: argparse.Namespace) -> None:
    """Train what is not there yet."""
    wanted = kinds_called(arguments.kinds or [""])
    folder = made_folder(arguments.folder, "FOLDER")
    few = signs(os.environ.get("ASD_DATA_DIR", "dataset"), folder / "cache")
    many = digits()
    for seed in arguments.seeds:
        for kind in wanted:
            place = "".join(c if c.isalnum() else "_" for c in kind.name)
            out = folder / f"{place}_{seed}.npz"
            if out.exists():
                say(f"{out}: there already; remove it to run this again")
                continue
            stock = few if kind.classes <= SIGNS else many
            say(f"{out.name}: {run_one(kind, seed, stock, out)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: run(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())

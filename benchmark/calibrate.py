"""Calibrate the verdict: `python -m benchmark.calibrate [--write]`.

Thousands of training runs are too dear, so most runs are simulated from a few recorded ones (see
`benchmark/verdict_simulated.py`); the recorded ones (`benchmark/verdict_real.py`) are judged too,
and told apart in the results. The seeds of the simulation are split: the first half sets the
thresholds, and all rates come from the second. `--write` leaves the thresholds in
`report/thresholds.json`; without it they are held against those that are there. Results:
`results/verdict/simulated.json` and `results/verdict/recorded.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.verdict_kinds import CLEAN, EVERY_KIND, POISONED, POISONED_VARIED, Kind, halves
from benchmark.verdict_measure import Run, measure, rates, rates_of
from benchmark.verdict_simulated import Recording, read_recording, replay, simulate
from command.arguments import Parser
from report.judge import THRESHOLDS, read_thresholds
from run.versions import git_commit
from utils.console import progress, say, table
from utils.files import PROJECT, made_folder, write_text
from utils.program import positive_number, run_program

RESULTS = PROJECT / "results" / "verdict"
RECORDED = RESULTS / "recorded"
SEEDS_OF_A_SIZE = {5_000: 2, 10_000: 2}  # by samples
FIRST_SEED = 1000  # none below it: those were looked at while the verdict was made
FALSE_ALARMS = 0.01  # of the clean runs that set the thresholds
ACQUITTED = 0.95  # of them, as far as one statistic goes
MISSED = 0.02  # of the poisoned ones of a size, that may be called no sign
STEP = 0.05  # thresholds are multiples of it
LEAST_TO_ACCUSE = 0.5  # an accused class is at least half of what is looked at
FIXED = ("even_from", "accuse_from", "accuse_by_witness_from")  # not set here


def simulated(
    recordings: Sequence[Recording], first: bool, scale: float, limits: Mapping[str, float]
) -> Iterator[Run]:
    """Measure all simulated runs of one half of the seeds.

    Args:
        recordings: from which signals are drawn.
        first: the half that sets thresholds; else the other.
        scale: of the number of seeds.
        limits: thresholds of their verdicts.
    """
    plan = []
    for count, number in SEEDS_OF_A_SIZE.items():
        setting, testing = halves(range(FIRST_SEED, FIRST_SEED + max(2, round(scale * number))))
        plan += [
            (kind, count, seed) for kind in EVERY_KIND for seed in (setting if first else testing)
        ]
    for kind, count, seed in progress(plan, "simulate", unit="run"):
        findings, labels = simulate(kind, count, seed, recordings)
        yield measure(kind, count, seed, findings, labels, limits)


def choose(runs: Sequence[Run]) -> dict[str, float]:
    """Return the thresholds that these runs set, those of `FIXED` as they are."""
    limits = read_thresholds()
    clean = [run for run in runs if run.kind.expected == "clean"]
    usual = [run for run in clean if not run.kind.confused]
    quiet = [run for run in usual if not run.kind.noise]
    alarm = np.quantile([run.accusable for run in clean], 1 - FALSE_ALARMS)
    found = {key: limits[key] for key in FIXED}
    found["poisoned_from"] = max(LEAST_TO_ACCUSE, next_step(alarm))
    found["no_sign_joint_to"] = next_step(np.quantile([run.joint for run in usual], ACQUITTED))
    found["no_sign_to"] = next_step(np.quantile([run.dense for run in usual], ACQUITTED))
    agreement = np.quantile([run.agreement for run in quiet], 1 - ACQUITTED)
    found["agreement_from"] = math.floor(100 * agreement) / 100
    found["no_sign_samples"] = smallest_that_shows(runs, found)
    return {key: found[key] for key in limits}


def next_step(value: Any) -> float:
    """Return the next multiple of `STEP` above."""
    return round((math.floor(float(value) / STEP) + 1) * STEP, 2)


def smallest_that_shows(runs: Sequence[Run], limits: Mapping[str, float]) -> float:
    """Return from how many poisoned samples on hardly any run would be called no sign."""
    poisoned = [run for run in runs if run.kind.expected == "poisoned"]
    sizes = sorted({run.poisoned for run in poisoned})
    for size in sizes:
        missed = [run.would_acquit(limits) for run in poisoned if run.poisoned >= size]
        if np.mean(missed) <= MISSED:
            return float(size)
    return float(sizes[-1])


def bar(runs: Sequence[Run], kinds: Sequence[Kind]) -> list[Run]:
    """Return 20 runs of these kinds, as even as can be over kinds and sizes: the issue's bar."""
    found: list[Run] = []
    for place in range(4 * len(kinds)):
        kind = kinds[place % len(kinds)]
        size = sorted(SEEDS_OF_A_SIZE)[(place // len(kinds)) % 2]
        left = [r for r in runs if r.kind == kind and r.count == size and r not in found]
        found += left[:1]
    return found[:20]


def recorded(limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what is said of the real runs, one a row."""
    rows = []
    for path in sorted(RECORDED.glob("*.npz")):
        kind, about, findings, labels = replay(path)
        run = measure(kind, len(findings), int(about["seed"]), findings, labels, limits)
        rows.append({"trained": True, **about, **run.as_row()})
    return rows


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="leave thresholds and results")
    parser.add_argument("--scale", type=positive_number, default=1.0, help="of the number of seeds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(argv)


def calibrate(arguments: argparse.Namespace) -> None:
    """Calibrate, and say how well the verdict does."""
    made_folder(arguments.out, "--out")
    recordings = [read_recording(path) for path in sorted(RECORDED.glob("*.npz"))]
    setting = list(simulated(recordings, True, arguments.scale, read_thresholds()))
    limits = choose(setting)
    say(f"thresholds: {limits}")
    if arguments.write:
        about = json.loads(THRESHOLDS.read_text(encoding="utf-8"))
        about |= {"thresholds": limits, "obtained": obtained(setting, len(recordings))}
        write_text(THRESHOLDS, json.dumps(about, indent=2) + "\n")
    testing = list(simulated(recordings, False, arguments.scale, limits))
    report(setting, testing, limits, arguments.out)


def obtained(runs: Sequence[Run], recordings: int) -> dict[str, Any]:
    """Return where the thresholds come from, for `thresholds.json`."""
    named = [run.accusable for run in runs if run.kind in POISONED]
    clean = [run.accusable for run in runs if run.kind.expected == "clean"]
    shares = (0.0, 0.05, 0.5, 0.95, 1.0)
    return {
        "by": "python -m benchmark.calibrate --write",
        "runs": f"{len(runs)} simulated ones, with signals of {recordings} recorded ones; the "
        "rates in results/verdict/simulated.json come from as many others",
        "poisoned_from": f"{FALSE_ALARMS:.0%} of the clean ones lie above; at least "
        f"{LEAST_TO_ACCUSE}",
        "no_sign_joint_to, no_sign_to, agreement_from": f"{ACQUITTED:.0%} of the clean ones with "
        "right labels lie on the side of no sign",
        "no_sign_samples": f"{MISSED:.0%} at most of poison of as many samples or more is called "
        "no sign",
        "accuse_from": "lies between the runs on digits (agreement 0.90 and more) and those on "
        "the reduced CIFAR-10 (0.58 to 0.66), which accused the wrong class in two of six runs",
        "even_from, accuse_by_witness_from": "chosen",
        "quantiles": list(shares),
        "broad_concentration_clean": np.quantile(clean, shares).round(2).tolist(),
        "broad_concentration_poisoned": np.quantile(named, shares).round(2).tolist(),
    }


def report(
    setting: Sequence[Run], testing: Sequence[Run], limits: Mapping[str, float], out: Path
) -> None:
    """Write and print what the thresholds give on the runs that did not set them."""
    bars = {"clean": bar(testing, CLEAN), "poisoned": bar(testing, (*POISONED, POISONED_VARIED[2]))}
    told = rates(testing)
    about = {
        "what": "simulated runs: labels drawn by kind, signals drawn from the runs in recorded/",
        "trained": False,
        "git_commit": git_commit(),
        "thresholds": limits,
        "runs_that_set_thresholds": len(setting),
        "rates": told,
        "bars": {name: rates_of(runs) for name, runs in bars.items()},
        "runs_of_the_bars": {name: [run.as_row() for run in runs] for name, runs in bars.items()},
    }
    write_text(out / "simulated.json", json.dumps(about, indent=1) + "\n")
    rows = recorded(limits)
    real = {"what": "real runs of config/own_data.yaml on digits", "git_commit": git_commit()}
    write_text(out / "recorded.json", json.dumps({**real, "runs": rows}, indent=1) + "\n")
    say(table([{"kind": kind, **row} for kind, row in told.items()], headers="keys"))
    say(json.dumps(about["bars"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: calibrate(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())

"""Count what the verdict said of real runs: `python -m benchmark.verdict_rates FOLDER NAME`.

FOLDER holds what `benchmark.verdict_real` has left; the rows and the counts go to
`results/verdict/NAME.json`. Each run is judged anew by the thresholds in force, from all that it
said of its samples, witnesses included; where they are those of the run, that is the run's verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.verdict_kinds import EVERY_KIND, Kind
from benchmark.verdict_measure import interval
from benchmark.verdict_simulated import NOBODY
from command.arguments import Parser
from data.poison import TrainingSet
from defense.history import History
from report.accusations import accusations_of, doubts_of, kinds_seen
from report.examine import gather
from report.findings import Findings, Opinion
from report.judge import judge, read_thresholds
from report.verdict import Verdict
from run.versions import git_commit
from utils.console import say, table
from utils.errors import InputError
from utils.files import PROJECT, write_text
from utils.program import run_program, whole_number
from witness.hearing import Testimony
from witness.witness import Statement

RESULTS = PROJECT / "results" / "verdict"
# What is read of a run, and what of each of its samples.
OF_RUN = ("seed", "acc", "device", "versions", "verdict", "seconds", "git_commit")
OF_SAMPLES = ("labels", "predicted", "given_probability", "seeds", "true", "poisoned")


def findings_of(found: dict[str, Any]) -> Findings:
    """Return the findings of a recorded run, from its arrays."""
    labels = torch.from_numpy(found["labels"].astype(np.int64))
    predicted = torch.from_numpy(found["predicted"].astype(np.int64))
    given = torch.from_numpy(found["given_probability"])
    losses = {
        key.removeprefix("loss_"): torch.from_numpy(values)
        for key, values in found.items()
        if key.startswith("loss_")
    }
    reductions = [torch.from_numpy(found["reduction"])] if "reduction" in found else []
    history = History(1, None, losses, reductions)
    classes = tuple(f"{label:02}" for label in range(int(max(labels.max(), predicted.max())) + 1))
    training = TrainingSet(torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8), labels, classes)
    probability = torch.where(predicted == labels, given, 1 - given)
    opinion = Opinion(predicted, probability, given)
    seeds = torch.from_numpy(np.flatnonzero(found["seeds"]))
    return gather(training, opinion, history, seeds, NOBODY, testimony_of(found))


def testimony_of(found: dict[str, Any]) -> Testimony:
    """Return what the witnesses of a recorded run said."""
    names = [key.removeprefix("accused_") for key in found if key.startswith("accused_")]
    statements = {}
    for name in names:
        vetoed = torch.from_numpy(found[f"vetoed_{name}"])
        accused = {int(label): float(strength) for label, strength in found[f"accused_{name}"]}
        statements[name] = Statement(vetoed.float(), vetoed, accused)
    if not statements:
        return Testimony()
    vetoed = torch.stack([said.vetoed for said in statements.values()]).any(dim=0)
    return Testimony(statements, vetoed)


def outcome(verdict: Verdict, targets: set[str]) -> str:
    """Return the verdict; `poisoned` with how its targets are: right, some (of them), wrong."""
    if verdict.name != "poisoned" or not targets:
        return verdict.name
    accused = set(verdict.targets)
    if accused == targets:
        return "poisoned, right"
    return "poisoned, some" if accused < targets else "poisoned, wrong"


@dataclass(frozen=True)
class Record:
    """A run as `benchmark.verdict_real` has left it.

    Attributes:
        kind: of its set.
        about: what the run says of itself.
        arrays: by name, what it says of each sample.
    """

    kind: Kind
    about: dict[str, Any]
    arrays: dict[str, Any]


def read_record(path: Path) -> Record:
    """Return the run in a file.

    Raises:
        InputError: it is none, or not whole.
    """
    try:
        with np.load(path) as file:
            found = {key: file[key] for key in file.files}
        about = json.loads(str(found["about"]))
        kind = {kind.name: kind for kind in EVERY_KIND}[about["kind"]]
        missing = {*OF_SAMPLES} - {*found} | {*OF_RUN} - {*about}
    except Exception as error:  # of another file, or of half a one, numpy raises nearly everything
        raise InputError(f"FOLDER: {path} is no run of benchmark.verdict_real") from error
    if missing:
        raise InputError(f"FOLDER: {path} is no run of benchmark.verdict_real: no {min(missing)!r}")
    return Record(kind, about, found)


def row_of(record: Record) -> dict[str, Any]:
    """Return what a recorded run was, and what is said of it by the thresholds in force."""
    kind, about, found = record.kind, record.about, record.arrays
    findings = findings_of(found)
    accusations, seen = accusations_of(findings), kinds_seen(findings)
    verdict = judge(findings, accusations, seen, doubts_of(findings))
    mistaken = found["poisoned"] if kind.poison else found["labels"] != found["true"]
    wrong = found["labels"][mistaken] if kind.expected != "clean" else []
    targets = set(np.unique(wrong).astype(int).tolist())
    names = findings.training.classes
    said = verdict.statistics
    return {
        "kind": kind.name,
        "expected": kind.expected,
        "seed": about["seed"],
        "samples": len(findings),
        "poisoned": int(mistaken.sum()) if targets else 0,
        "acc": round(about["acc"], 4),
        "outcome": outcome(verdict, {names[label] for label in targets}),
        "targets": sorted(names[label] for label in targets),
        "accused": sorted(verdict.targets),
        "by_witness": {names[k]: round(one.strength, 2) for k, one in accusations.items()},
        "estimated": verdict.estimated_poisoned,
        "estimated_range": list(verdict.estimated_range),
        **{key: round(said[key], 3) for key in said if key.endswith(("tration", "agreement"))},
        "median_loss": float(np.median(-np.log(np.maximum(found["given_probability"], 1e-30)))),
        "seconds": about["seconds"],
        "verdict_of_the_run": about["verdict"],
        "git_commit": about["git_commit"],
    }


def counts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how often which verdict was given, for each sort of set."""
    found: dict[str, Any] = {}
    for sort in dict.fromkeys(row["expected"] for row in rows):
        part = [row for row in rows if row["expected"] == sort]
        seen = Counter(row["outcome"] for row in part)
        accused = sum(row["outcome"].startswith("poisoned") for row in part)
        found[sort] = {"runs": len(part), **seen, "poisoned_interval": interval(accused, len(part))}
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="-m benchmark.verdict_rates", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument(
        "--seeds", type=whole_number(0), nargs="+", help="of the runs that count; or all"
    )
    arguments = parser.parse_args(argv)
    if Path(arguments.name).name != arguments.name:
        parser.error(f"NAME: {arguments.name!r} is a path; the result goes to {RESULTS}")
    return arguments


def count(arguments: argparse.Namespace) -> None:
    """Count, and leave the results."""
    records = [read_record(path) for path in sorted(arguments.folder.glob("*.npz"))]
    records = [
        one for one in records if not arguments.seeds or one.about["seed"] in arguments.seeds
    ]
    if not records:
        raise InputError(
            f"FOLDER: no run of these seeds is in {arguments.folder}; python -m "
            f"benchmark.verdict_real makes runs"
        )
    rows = [row_of(record) for record in records]
    about = records[0].about
    result = {
        "what": "real runs of benchmark/verdict.yaml, made by benchmark.verdict_real",
        "trained": True,
        "git_commit": git_commit(),
        "device": about["device"],
        "versions": about["versions"],
        "thresholds": read_thresholds(),
        "counts": counts(rows),
        "runs": rows,
    }
    write_text(RESULTS / f"{arguments.name}.json", json.dumps(result, indent=1) + "\n")
    shown = ("kind", "seed", "acc", "outcome", "targets", "accused", "broad_concentration")
    say(table([{key: row[key] for key in shown} for row in rows], headers="keys"))
    say(json.dumps(result["counts"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: count(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())

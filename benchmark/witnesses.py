"""What each witness sees of each attack: the table by which witnesses are chosen.

    python -m benchmark.witnesses config/small/*.yaml --seeds 100 101 102 --json FILE -- KEY=VALUE

Nothing is trained but the reference, which is kept. The truth is read here to measure, and by
nobody else. With --json the rows are written after each case, and cases that are there are not
measured again, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from command.arguments import Parser
from config.load import load_config
from run.learning import build_fitting_network, build_views, call_witnesses, lay_ground
from run.material import Material, read_material
from run.measure import auroc_of
from run.names import find_folder
from run.resume import Resumption
from run.setup import Setup
from run.versions import git_commit, versions
from utils.console import say, table
from utils.device import device_name, find_device
from utils.errors import InputError
from utils.files import made_folder, write_text
from utils.program import run_program, whole_number
from utils.streams import Streams
from utils.world import ALONE
from witness import WITNESSES, Case, Statement

# `probabilities` needs a file, and those who wait a defence that trains.
ASKED = tuple(
    name for name in WITNESSES if name != "probabilities" and not WITNESSES.get(name).waits
)


def open_case(path: Path, overrides: Sequence[str], device: torch.device) -> tuple[Case, Material]:
    """Return what witnesses look at, and beside it what is true."""
    heard = f"witness.heard=[{ASKED[0]}]"
    loaded = load_config(path, [heard, "defense=asd", *overrides])
    config = loaded.config
    setup = Setup(
        config=config,
        device=device,
        world=ALONE,
        folder=find_folder(config.storage_dir, None, loaded.name),
        start=Resumption(None, None, False, ""),
        streams=Streams(Resumption(None, None, False, "").seed(config.seed.seed)),
    )
    material = read_material(setup)
    views = build_views(config, material.training)
    ground = lay_ground(setup, material, views, build_fitting_network(setup, material, views))
    return call_witnesses(setup, material, ground).case, material


def measured(statement: Statement, case: Case, material: Material) -> dict[str, Any]:
    """Return how well a statement tells the poisoned samples; cross samples are clean."""
    poisoned, suspicion = material.truth.poisoned, statement.suspicion
    vetoed = statement.vetoed
    row: dict[str, Any] = {
        "accused": sorted(statement.accused),
        "clean_vetoed": int((vetoed & ~poisoned).sum()),
        "clean": int((~poisoned).sum()),
    }
    if not bool(poisoned.any()):
        return row
    targets = case.labels[poisoned].unique()
    inside = torch.isin(case.labels, targets)
    first = suspicion.argsort(descending=True, stable=True)[: int(poisoned.sum())]
    return {
        **row,
        "poisoned": int(poisoned.sum()),
        "poisoned_vetoed": int((vetoed & poisoned).sum()),
        "auroc": auroc(suspicion, poisoned),
        "auroc_in_label": auroc(suspicion[inside], poisoned[inside]),
        "precision": float(poisoned[first].double().mean()),
    }


def auroc(suspicion: Tensor, poisoned: Tensor) -> float | None:
    """Return the area under the ROC curve; None where all are poisoned, or none is."""
    if bool(poisoned.all()) or not bool(poisoned.any()):
        return None
    return auroc_of(suspicion, poisoned)


def hear_all(
    path: Path, overrides: Sequence[str], names: Sequence[str], device: torch.device
) -> list[dict[str, Any]]:
    """Return a row for each witness on one poisoned set."""
    case, material = open_case(path, overrides, device)
    rows = []
    for name in names:
        witness = WITNESSES.get(name)
        started = time.perf_counter()
        statement = witness(witness.Settings()).testify(case)
        seconds = time.perf_counter() - started
        row = measured(statement, case, material)
        rows.append({"witness": name, "cost": statement.cost, "seconds": seconds, **row})
    return rows


def key_of(path: Path, seed: int, overrides: Sequence[str]) -> str:
    """Return the name of a case."""
    kept = [given for given in overrides if not given.startswith(("dataset_dir", "storage_dir"))]
    return " ".join([path.stem, f"seed={seed}", *kept])


def read_kept(file: Path | None) -> dict[str, Any]:
    """Return what an earlier call has left in `file`, which can be written afterwards.

    Raises:
        InputError: it holds something else, or its folder cannot be written.
    """
    if file is None:
        return {"cases": {}}
    made_folder(file.parent, "--json")
    if not file.exists():
        return {"cases": {}}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kept = {row["witness"] for rows in content["cases"].values() for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        kept = {None}
    if not all(isinstance(name, str) for name in kept):
        raise InputError(f"--json: {file} holds something else than cases; name another file")
    return dict(content)


def run(arguments: argparse.Namespace) -> None:
    """Measure all cases; print a table of each, and keep the rows."""
    file, overrides = arguments.json, arguments.overrides
    content = read_kept(file)
    device, _ = find_device(arguments.gpu)
    content["run_on"] = {**versions(), "commit": git_commit(), "device": device_name(device)}
    for seed in arguments.seeds:
        for path in arguments.configs:
            key = key_of(path, seed, overrides)
            kept = content["cases"].setdefault(key, [])
            names = [
                name for name in arguments.witnesses if name not in {row["witness"] for row in kept}
            ]
            if names:
                kept += hear_all(path, [*overrides, f"seed.seed={seed}"], names, device)
            show(key, kept)
            if file is not None:
                write_text(file, json.dumps(content, indent=1) + "\n")


def show(key: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of a case."""
    columns = ["witness", "auroc", "auroc_in_label", "precision", "poisoned_vetoed"]
    columns += ["poisoned", "clean_vetoed", "accused", "seconds"]
    cells = [[shown(row.get(column)) for column in columns] for row in rows]
    say(key)
    say(table(cells, columns))


def shown(value: Any) -> str:
    """Return a cell."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; what follows `--` are overrides for all cases.

    Raises:
        InputError: unknown or incomplete ones.
    """
    given = list(argv)
    end = given.index("--") if "--" in given else len(given)
    parser = Parser(prog="-m benchmark.witnesses", description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path, metavar="YAML")
    parser.add_argument("--seeds", nargs="+", type=whole_number(0), default=[100], metavar="N")
    parser.add_argument("--witnesses", nargs="+", default=list(ASKED), choices=ASKED)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    parser.add_argument("--gpu", default="cpu", help="as of ASD.py (default: %(default)s)")
    arguments = parser.parse_args(given[:end])
    arguments.overrides = given[end + 1 :]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: run(parse(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())

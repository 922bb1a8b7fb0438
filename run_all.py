"""Run a list of configurations one after another, and tabulate their results.

    python run_all.py config/small/*.yaml --defense asd none --seeds 1 2 3 -- dataset_dir=FOLDER

Each run is a process of its own (`ASD.py`). Finished runs are skipped and interrupted ones go on,
so the same command can be given until all is done. A run that fails does not stop the list. With
`--seeds` a second table has mean and range of each configuration. Exit codes: 0 all runs are
finished; 1 at least one failed; 2 wrong use; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command.arguments import Parser
from command.jobs import FINISHED, plan_jobs, run_job
from command.listing import report, result_row
from defense import DEFENSES
from utils.console import say
from utils.errors import InputError, TrainingError, nearest
from utils.interrupt import Interrupt, Interrupted


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; what follows `--` are overrides for all runs.

    Raises:
        InputError: unknown or incomplete ones.
    """
    given = list(argv)
    end = given.index("--") if "--" in given else len(given)
    parser = Parser(prog="run_all.py", description="Run configurations one after another.")
    parser.add_argument("configs", nargs="+", metavar="YAML")
    parser.add_argument(
        "--defense", nargs="+", metavar="NAME", help="run each with these, e.g. asd none"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="N", help="run each with these, e.g. 100 101 102"
    )
    parser.add_argument("--gpu", default=None, help="as of ASD.py")
    parser.add_argument(
        "--anew",
        action="store_true",
        help="from scratch, finished runs too; earlier runs are moved aside",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        default=Path("storage/results.csv"),
        help="where the table goes (default: %(default)s)",
    )
    arguments = parser.parse_args(given[:end])
    arguments.overrides = given[end + 1 :]
    for defense in arguments.defense or []:
        if defense not in DEFENSES:
            raise InputError(f"--defense: no defence {defense!r}{nearest(defense, DEFENSES)}")
    return arguments


def run_list(argv: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = parse(argv)
    jobs = plan_jobs(arguments)
    rows: list[dict[str, Any]] = []
    try:
        for number, job in enumerate(jobs, start=1):
            say(f"[{number}/{len(jobs)}] {job.name}")
            rows.append(result_row(job, run_job(job, arguments)))
    finally:
        if rows:
            report(jobs, rows, arguments.csv)
    return 0 if all(row["state"] == FINISHED for row in rows) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    try:
        with Interrupt():
            return run_list(sys.argv[1:] if argv is None else argv)
    except (InputError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())

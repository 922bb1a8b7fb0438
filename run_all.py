"""Run a list of configurations one after another, and tabulate their results.

    python run_all.py config/small/*.yaml --defense asd none --seeds 1 2 3 -- dataset_dir=FOLDER

Each run is a process of its own (`ASD.py`). Finished runs are skipped and interrupted ones go on,
so the same command can be given until all is done. A run that fails does not stop the list. With
`--seeds` a second table has mean and range of each configuration.

    python run_all.py --table paper -- dataset_dir=FOLDER

makes the paper's table: attacks down, all defences across, as text, Markdown, CSV, JSON and a
picture, beside what has been published. Exit codes: 0 all runs are finished; 1 at least one failed;
2 wrong use, or no configuration is right; 130 Ctrl-C.
"""

from __future__ import annotations

if __name__ == "__main__":  # first of all, since the imports below take seconds
    from utils.starting import hear_interrupts

    hear_interrupts()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command.arguments import Parser
from command.cells import gather_cells
from command.jobs import FINISHED, NOT_BEGUN, Job, plan_jobs, run_job
from command.listing import report, result_row
from command.published import read_published
from command.table import Table
from command.table_picture import write_table_picture
from config.methods import METHODS
from utils.console import Lines, quiet_libraries, say, say_error
from utils.errors import InputError, TrainingError, nearest, of_system
from utils.files import PROJECT, made_folder
from utils.interrupt import Interrupt, Interrupted
from utils.paths import user_path

TABLE_DIR = "storage/table"
# The paper's columns and rows; the rows are those that a laptop can run.
PAPER_DEFENSES = ("none", "fine_pruning", "nad", "abl", "dbd", "asd")
PAPER_ATTACKS = ("badnets", "blend", "wanet", "iab", "refool", "clb")


def paper_configs() -> list[str]:
    """Return the YAMLs of the paper's attacks on the reduced CIFAR-10."""
    return [str(PROJECT / "config" / "small" / f"{attack}.yaml") for attack in PAPER_ATTACKS]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; what follows `--` are overrides for all runs.

    Raises:
        InputError: unknown or incomplete ones.
    """
    given = list(argv)
    end = given.index("--") if "--" in given else len(given)
    parser = build_parser()
    arguments = parser.parse_args(given[:end])
    arguments.overrides = given[end + 1 :]
    if arguments.table is not None:
        arguments.configs = arguments.configs or paper_configs()
        arguments.defense = arguments.defense or list(PAPER_DEFENSES)
    if not arguments.configs:
        parser.error("YAML: name at least one configuration")
    if arguments.table_dir is not None and arguments.table is None:
        parser.error("--table-dir says where --table writes, and that is not given")
    for defense in arguments.defense or []:
        if defense not in METHODS:
            raise InputError(f"--defense: no defence {defense!r}{nearest(defense, METHODS)}")
    make_places(arguments)
    return arguments


def build_parser() -> Parser:
    """Return the parser of what stands before `--`."""
    parser = Parser(prog="run_all.py", description="Run configurations one after another.")
    parser.add_argument(
        "configs", nargs="*", metavar="YAML", help="with --table these are the rows"
    )
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
        default="storage/results.csv",
        help="where the table goes (default: %(default)s)",
    )
    add_comparison(parser)
    return parser


def add_comparison(parser: Parser) -> None:
    """Add what compares the defences in one table."""
    parser.add_argument(
        "--table",
        choices=["paper"],
        default=None,
        help="compare the defences on each configuration (default: the paper's six attacks on the "
        "reduced CIFAR-10, all defences)",
    )
    parser.add_argument(
        "--table-dir",
        default=None,
        help=f"where table.txt, .md, .csv, .json and .png go (default: {TABLE_DIR})",
    )


def make_places(arguments: argparse.Namespace) -> None:
    """Find the places of the tables and make their folders, before hours of runs."""
    arguments.csv = user_path(arguments.csv, "--csv")
    made_folder(arguments.csv.parent, "--csv")
    if arguments.csv.is_dir():
        raise InputError(f"--csv: {arguments.csv} is a folder; name a file")
    if arguments.table is not None:
        arguments.table_dir = user_path(arguments.table_dir or TABLE_DIR, "--table-dir")
        made_folder(arguments.table_dir, "--table-dir")


def write_table(jobs: Sequence[Job], states: Sequence[str], folder: Path) -> None:
    """Print the comparison and write it in all forms; runs that are missing leave gaps."""
    comparison = Table(gather_cells(jobs, states), read_published())
    say(Lines(comparison.written("simple")))
    files = [*comparison.write(folder), write_table_picture(comparison, folder / "table.png")]
    say(f"the table: {', '.join(map(str, files))}")


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
        states = {row["state"] for row in rows}
        if not states <= NOT_BEGUN:
            report(jobs, rows, arguments.csv)
            if arguments.table is not None:
                write_table(jobs, [row["state"] for row in rows], arguments.table_dir)
    if states <= NOT_BEGUN:
        say("no run could begin, so no table is written; those of earlier lists stay")
        return InputError.exit_code
    return 0 if states == {FINISHED} else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    try:
        with quiet_libraries(), Interrupt():
            return run_list(sys.argv[1:] if argv is None else argv)
    except (InputError, TrainingError) as error:
        say_error(str(error))
        return error.exit_code
    except OSError as error:
        say_error(of_system(error))
        return TrainingError.exit_code
    except Interrupted as stop:
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())

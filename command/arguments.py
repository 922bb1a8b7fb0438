"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from utils.errors import InputError


class Parser(argparse.ArgumentParser):
    """Reports wrong use in one line, as all wrong input is."""

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` instead of printing the usage."""
        raise InputError(f"command line: {message}; see python {self.prog} --help")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(
        prog="ASD.py",
        description="Train a clean image classifier on data that may hold backdoor poison.",
    )
    parser.add_argument(
        "--config",
        default="config/baseline_asd.yaml",
        help="path of the YAML (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        default="",
        help="False: from scratch, an earlier run is moved aside. Absent: from the latest "
        "checkpoint if there is one. A file name or path: from that checkpoint; that of a finished "
        "run is only evaluated",
    )
    parser.add_argument(
        "--gpu",
        default=None,
        help="number of a GPU, several for one process each (0,1), or cpu (default: the first GPU, "
        "else the CPU)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="validate configuration, data and checkpoint, print the plan, and stop",
    )
    parser.add_argument(
        "--bench",
        action="store_true",
        help="time the parts of this run on this machine, beside the conventional way, and stop",
    )
    parser.add_argument(
        "--export",
        default=None,
        metavar="DIR",
        help="write the poisoned training set to the empty or new folder DIR, and stop: PNG files "
        "in class folders, index.csv, and gallery.png",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write the report of a finished or interrupted run anew, and stop; nothing is trained",
    )
    parser.add_argument(
        "--fail-on-suspicion",
        action="store_true",
        help="after a run or with --report: exit 3 where the verdict is `poisoned`, 4 where it is "
        "`cannot tell`",
    )
    parser.add_argument(
        "--export-clean",
        default=None,
        metavar="DIR",
        help="copy the training images that the run's report keeps (purified.txt) to class folders "
        "in the empty or new folder DIR, and stop",
    )
    parser.add_argument(
        "--predict",
        nargs="+",
        default=None,
        metavar="PATH",
        help="label images, or all in a folder, with the run's model, and stop; overrides of keys "
        "come before it",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="with --predict: print a JSON list of file, label and probability, and nothing else",
    )
    parser.add_argument(
        "--name",
        default=None,
        help="of the run's folder (default: the YAML's path below config/ without .yaml)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.subkey=value",
        help="set any key of the YAML",
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.json and arguments.predict is None:
        parser.error("--json says how --predict prints, and that is not given")
    return arguments

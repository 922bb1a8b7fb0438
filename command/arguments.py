"""The command line."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from data.clean import LAYOUTS
from utils.console import Lines, say
from utils.errors import InputError
from utils.output import printed

# Flags that mean nothing to what is asked for; a flag that nobody reads is an error, as a key is.
UNREAD = {
    "check": ("fail_on_suspicion",),
    "bench": ("fail_on_suspicion",),
    "report": (),
    "export": ("fail_on_suspicion", "name", "resume"),
    "export_clean": ("fail_on_suspicion", "resume"),
    "export_onnx": ("fail_on_suspicion", "gpu", "resume"),
    "predict": ("fail_on_suspicion", "resume"),
}
# What argparse says where the name of a file may have been taken for a flag.
LEADING = re.compile(r"expected (at least )?one argument|unrecognized arguments: (.* )?-[^-]")
LONGEST_COMMAND = 120  # characters; an error line is clipped, and half a command is none


class Parser(argparse.ArgumentParser):
    """Reports wrong use in one line, as all wrong input is."""

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` instead of printing the usage."""
        hint = "; a name that begins with - is written ./-NAME" if LEADING.search(message) else ""
        raise InputError(f"command line: {message}{hint}; see python {self.prog} --help")

    def print_help(self, file: object = None) -> None:
        """Print the help."""
        say(Lines(self.format_help().rstrip("\n")))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the process after `--help`."""
        sys.exit(status or printed())


class Once(argparse.Action):
    """Stores what follows a flag, which may be given once: of two, one would be ignored."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store `values`."""
        if getattr(self, "was_given", False):
            parser.error(f"{option_string} is given twice")
        self.was_given = True
        setattr(namespace, self.dest, values)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments.

    Raises:
        InputError: unknown, incomplete, repeated or contradicting ones.
    """
    parser = Parser(
        prog="ASD.py",
        description="Train a clean image classifier on data that may hold backdoor poison.",
    )
    add_general(parser)
    add_answers(parser)
    add_tasks(parser)
    add_overrides(parser)
    arguments = parser.parse_intermixed_args(argv)
    refuse_unread(parser, arguments)
    return arguments


def add_general(parser: Parser) -> None:
    """Add what says which run is meant, and where it computes."""
    parser.add_argument(
        "--config",
        action=Once,
        default="config/baseline_asd.yaml",
        help="path of the YAML (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        action=Once,
        nargs="?",
        const="",
        default="",
        help="False: from scratch, an earlier run is moved aside. Absent: from the latest "
        "checkpoint if there is one. A file name or path: from that checkpoint; that of a finished "
        "run is only evaluated",
    )
    parser.add_argument(
        "--gpu",
        action=Once,
        default=None,
        help="number of a GPU, several for one process each (0,1), or cpu (default: the first GPU, "
        "else the CPU)",
    )
    parser.add_argument(
        "--name",
        action=Once,
        default=None,
        help="of the run's folder (default: the YAML's path below config/ without .yaml)",
    )


def add_answers(parser: Parser) -> None:
    """Add what says how the answer is told to other programs."""
    parser.add_argument(
        "--fail-on-suspicion",
        action="store_true",
        help="after a run or with --report: exit 3 where the verdict is `poisoned`, 4 where it is "
        "`cannot tell`",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="with --predict: print a JSON list of file, label and probability, and nothing else",
    )


def add_tasks(parser: Parser) -> None:
    """Add what may be asked for in place of training; one of them."""
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument(
        "--check",
        action="store_true",
        help="validate configuration, data and checkpoint, print the plan, and stop",
    )
    tasks.add_argument(
        "--bench",
        action="store_true",
        help="time the parts of this run on this machine, beside the conventional way, and stop",
    )
    tasks.add_argument(
        "--report",
        action="store_true",
        help="write the report of a run anew, finished or not, perhaps while another process "
        "trains it, and stop; nothing is trained",
    )
    add_exports(parser, tasks)
    add_uses_of_model(tasks)


def add_exports(parser: Parser, tasks: argparse._ActionsContainer) -> None:
    """Add the tasks that write images to a folder, and what belongs to them."""
    tasks.add_argument(
        "--export",
        action=Once,
        default=None,
        metavar="DIR",
        help="write the poisoned training set to the empty or new folder DIR, and stop: PNG files "
        "in class folders, index.csv, and gallery.png",
    )
    tasks.add_argument(
        "--export-clean",
        action=Once,
        default=None,
        metavar="DIR",
        help="copy the training images that the run's report keeps (purified.txt) to class folders "
        "in the empty or new folder DIR, and stop",
    )
    parser.add_argument(
        "--layout",
        action=Once,
        choices=LAYOUTS,
        default=None,
        help="with --export-clean: class folders alone (default), or Hugging Face's imagefolder",
    )


def add_uses_of_model(tasks: argparse._ActionsContainer) -> None:
    """Add the tasks for which the run's model is loaded."""
    tasks.add_argument(
        "--predict",
        action=Once,
        nargs="+",
        default=None,
        metavar="PATH",
        help="label images, or all in a folder, with the run's model, and stop; overrides of keys "
        "come before it",
    )
    tasks.add_argument(
        "--export-onnx",
        action=Once,
        default=None,
        metavar="FILE",
        help="write the run's model as ONNX to the new file FILE, checked with onnxruntime, and "
        "stop",
    )


def add_overrides(parser: Parser) -> None:
    """Add what sets keys of the YAML."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.subkey=value",
        help="set any key of the YAML",
    )


def refuse_unread(parser: Parser, arguments: argparse.Namespace) -> None:
    """Raise `InputError` for a flag that what is asked for does not read."""
    for task, flags in UNREAD.items():
        if getattr(arguments, task) in (None, False):
            continue
        for flag in flags:
            if getattr(arguments, flag) not in (None, False, ""):
                parser.error(f"{spelt(flag)} means nothing to {spelt(task)}; leave one out")
    if arguments.json and arguments.predict is None:
        parser.error("--json says how --predict prints, and that is not given")
    if arguments.layout and arguments.export_clean is None:
        parser.error("--layout says how --export-clean writes, and that is not given")


def own_command(arguments: argparse.Namespace, task: str, instead: str = "") -> str:
    """Return the user's command for this very run, quoted for a shell; in words where it is long.

    Args:
        arguments: of the command line.
        task: the flag that asks for what cannot be done yet.
        instead: the flag to ask for; none: the run is trained, or goes on.
    """
    words = ["python", "ASD.py", "--config", arguments.config]
    for flag in ("name", "gpu"):
        value = getattr(arguments, flag)
        words += [] if value is None else [spelt(flag), value]
    command = shlex.join([*words, *arguments.overrides, *([instead] if instead else [])])
    if len(command) <= LONGEST_COMMAND:
        return command
    return f"this command with {instead} for {task}" if instead else f"this command without {task}"


def spelt(name: str) -> str:
    """Return a flag as a person writes it."""
    return f"--{name.replace('_', '-')}"

"""What the programs beside `ASD.py` have in common: wrong input is one line, and an exit code."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from utils.console import say_error
from utils.errors import InputError, TrainingError, of_system
from utils.interrupt import Interrupt, Interrupted
from utils.output import printed


def run_program(work: Callable[[], int | None]) -> int:
    """Do `work`, and return the exit code: its own, or that of what stopped it, said in one line.

    Args:
        work: reads the command line, too, since that may be wrong.
    """
    try:
        with Interrupt():
            return work() or printed()
    except (InputError, TrainingError) as error:
        say_error(str(error))
        return error.exit_code
    except OSError as error:  # a path of the command line that leads nowhere
        say_error(of_system(error))
        return InputError.exit_code
    except Interrupted as stop:
        return stop.exit_code


def whole_number(least: int = 1) -> Callable[[str], int]:
    """Return argparse's reader of a whole number of `least` or more."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return number

    return read


def positive_number(text: str) -> float:
    """Return a number above 0 for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number

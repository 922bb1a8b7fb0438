"""The real entry point under wrong input: what must hold, whatever is given."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, settings

import ASD
from tests.conftest import DIGITS, TINY
from utils.printable import LONGEST_ERROR, printable

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
# Seconds; a check takes less than one. Computing is measured in the processor's own time, since the
# machine may be busy; what waits for something uses none, so there is a longer limit by the clock.
HANGS_AFTER = 10
WAITS_AFTER = 300
CHECK = ("--config", str(DIGITS), "--gpu", "cpu", *TINY)

# The seed of the examples is fixed, as in all tests; a nightly run goes deeper.
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


class Hang(BaseException):
    """The program has not come back."""


class Outcome(NamedTuple):
    """Exit code, and what was printed."""

    code: int
    out: str
    err: str


@contextmanager
def no_hang() -> Iterator[None]:
    """Raise `Hang` in the block where it does not end; a time limit of pytest's is put back."""

    def ring(*_: object) -> None:
        raise Hang

    before = {which: signal.signal(which, ring) for which in (signal.SIGALRM, signal.SIGPROF)}
    limit = signal.setitimer(signal.ITIMER_REAL, WAITS_AFTER)
    signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for which, handler in before.items():
            signal.signal(which, handler)
        signal.setitimer(signal.ITIMER_REAL, *limit)


def outcome(argv: Sequence[str]) -> Outcome:
    """Run the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    sys.stdout.flush()
    with no_hang(), redirect_stdout(out), redirect_stderr(err):
        code = ASD.main(list(argv))
    return Outcome(code, out.getvalue(), err.getvalue())


def is_answered(argv: Sequence[str]) -> Outcome:
    """Run the program, which takes the input or refuses it in one short line; nothing is made."""
    found = outcome(argv)
    assert found.code in (0, 2), found
    assert all(printable(line) == line for line in found.out.split("\n")), found
    if found.code == 0:
        assert found.err == ""
        return found
    assert found.err.startswith("error: ")
    assert found.err.endswith("\n")
    line = found.err[:-1]
    assert printable(line) == line, found
    assert len(line) <= LONGEST_ERROR, found
    return found


def is_untouched(folder: Path) -> bool:
    """Return whether a check has left nothing there but what it decodes once."""
    return not folder.exists() or {path.name for path in folder.iterdir()} <= {"cache"}

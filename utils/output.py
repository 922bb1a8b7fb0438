"""stdout and stderr, which may lead nowhere: a full disk, a terminal that was closed, `head`.

A line that cannot be written never ends a run. What is lost of stdout is told once, on stderr.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO
from weakref import WeakSet

from utils.errors import TrainingError

_lost: WeakSet[TextIO] = WeakSet()  # streams that somebody waits for, and that nothing reached


def deliver(stream: TextIO | None, write: Callable[[TextIO], object]) -> None:
    """Let `write` write to `stream` and flush it; what fails leads the stream to nowhere.

    Args:
        stream: stdout or stderr; None where the process was started without.
        write: gets the stream.
    """
    if stream is None or stream.closed:
        return
    try:
        write(stream)
        stream.flush()
    except OSError as error:
        _lead_nowhere(stream)
        if error.errno == errno.EPIPE:  # as of `head`, which has seen enough
            return
        _lost.add(stream)
        if stream is sys.stdout:
            why = error.strerror or error
            line = f"error: stdout cannot be written ({why}); nothing more is printed there\n"
            deliver(sys.stderr, lambda aside: aside.write(line))


def _lead_nowhere(stream: TextIO) -> None:
    """Let what is left in the stream's buffer, and all that follows, vanish without an error."""
    with suppress(OSError, ValueError):  # no file of the system lies below it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def printed() -> int:
    """Return the exit code of what was asked for on stdout: 1 where it could not be written."""
    return TrainingError.exit_code if sys.stdout in _lost else 0


def is_watched() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()

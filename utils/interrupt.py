"""Ctrl-C and SIGTERM: at once where nothing is lost, else after the step that is under way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The user or the machine wants the run to stop; it carries the exit code (128 + signal)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interrupt:
    """Turns SIGINT and SIGTERM into `Interrupted`; inside `deferred`, only where `check` is called.

    A second signal does not wait.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self._received is not None
        self._received = number
        if again or not self._waiting:
            raise Interrupted(number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keep a signal back until `check`, or until the end of the block."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
        self.check()

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._received is not None:
            raise Interrupted(self._received)

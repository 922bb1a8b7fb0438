"""Ctrl-C and SIGTERM: at once where nothing is lost, else after the step that is under way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """The user or the machine wants the run to stop; it carries the exit code (128 + signal)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interrupt:
    """Turns SIGINT and SIGTERM into `Interrupted`; inside `deferred`, only where `check` is called.

    A second signal does not wait: the process ends at once, and the last checkpoint stays.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._received: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            # No exception: inside a step, half a step would go into the checkpoint.
            os._exit(128 + number)
        self._received = number
        if not self._waiting:
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

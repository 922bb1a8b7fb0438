"""Ctrl-C and SIGTERM: at once where nothing is lost, else after the step that is under way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from utils.world import Vote, World


class Interrupted(BaseException):
    """The user or the machine wants the run to stop; it carries the exit code (128 + signal)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interrupt:
    """Turns SIGINT and SIGTERM into `Interrupted`; inside `deferred`, only where `check` is called.

    A second signal does not wait: the process ends at once, and the last checkpoint stays.

    Of several processes none may stop alone, since the others would wait for it for ever: there a
    signal always waits for `check` or `poll`, which all of them must call together. Whoever sent
    it kills them after a while (PyTorch's launcher after 30 s), so they look at every step, and
    between the batches of a pass.
    """

    def __init__(self) -> None:
        self._world = World()
        self._waiting = False
        self._received: int | None = None
        self._asked: Vote | None = None
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
        if not self._waiting and not self.shared:
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
        """Raise `Interrupted` if a signal has come, to any of the processes."""
        if self._world.any(self._received is not None):
            raise Interrupted(self._received or signal.SIGTERM)

    def poll(self) -> None:
        """Do what `check` does; of several processes, with the answer of the poll before.

        So the message travels while the next step computes, and nobody waits for it.
        """
        if not self.shared:
            self.check()
            return
        before, self._asked = self._asked, self._world.vote(self._received is not None)
        if before is not None and before.outcome():
            raise Interrupted(self._received or signal.SIGTERM)

    @property
    def shared(self) -> bool:
        """Whether a stop is agreed with other processes, which costs a message at each `check`."""
        return self._world.size > 1

    def stop_together(self, world: World) -> World:
        """Stop together with the processes of `world` from now on; return it, with `poll`."""
        self._world = world
        return replace(world, poll_interrupt=self.poll) if self.shared else world

"""Ctrl-C while a program still imports PyTorch, which takes seconds: one line, and exit code 130.

`utils.interrupt` takes over as soon as there is something to lose.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType


def hear_interrupts() -> None:
    """Be called before the imports of a program: from now on Ctrl-C is no traceback."""
    open_closed_streams()
    signal.signal(signal.SIGINT, stop)


def stop(number: int, frame: FrameType | None) -> None:
    """End the process at once: nothing has begun, or everything is written."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes one speaks
        with suppress(OSError):
            os.write(2, b"stopped; nothing was under way\n")
    os._exit(128 + number)


def open_closed_streams() -> None:
    """Lead stdout and stderr nowhere where the process was started without (`>&-`).

    Their numbers would be given to the next files that are opened, and whatever a library prints
    would go there.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (stays)

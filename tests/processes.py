"""Several processes that start together; none of them outlives its test."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

PATIENCE = 300.0  # seconds: each imports PyTorch, perhaps on a busy machine


def run_together(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> list[int]:
    """Call `function` once in a process of its own for each of `calls`; return their exit codes.

    The processes are spawned: in a forked one the threads that PyTorch started are missing, and
    whoever waits for them waits for ever.
    """
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=function, args=call, daemon=True) for call in calls]
    try:
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + PATIENCE
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        assert not any(worker.is_alive() for worker in workers), "a process does not end"
        return [worker.exitcode or 0 for worker in workers]
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill()
                worker.join()

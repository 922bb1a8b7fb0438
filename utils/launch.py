"""`--gpu 0,1`: one process a device, started and watched by PyTorch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence

from utils.console import say_error
from utils.errors import TrainingError
from utils.files import PROJECT

# A process that ends with one of these has said why; 3 and 4 are `--fail-on-suspicion`.
OWN_EXIT_CODES = {1, 2, 3, 4, 130, 143}
LOST_CONTACT = 75  # of a process that ends because another one has
MARK = "ASD_LAUNCHED"  # in the environment of processes that `launch` has started
GRACE = 2.0  # seconds; the process that failed first is to be seen first


def already_launched() -> bool:
    """Return whether this process is one of several that a launcher has started."""
    return "LOCAL_RANK" in os.environ


def bereaved() -> int:
    """Return the exit code of a process that has lost another one; say so, unless `launch` will."""
    time.sleep(GRACE)
    if MARK not in os.environ:
        say_error("another process of the run is gone; the last checkpoint stays")
    return LOST_CONTACT


def launch(argv: Sequence[str], processes: int) -> int:
    """Run `ASD.py` with `argv` in so many processes of this machine; return the exit code.

    Raises:
        TrainingError: a process died without a word.
    """
    # Here, since few need it and it takes seconds.
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The launcher reports each failure in a page of its own; one line of ours is enough.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="asd",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    os.environ[MARK] = "1"
    # Processes with more threads in all than there are cores slow each other down twentyfold.
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    command = ["-u", str(PROJECT / "ASD.py"), *argv]
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as failure:
        codes = {rank: int(child.exitcode) for rank, child in failure.failures.items()}
        for code in codes.values():
            if code in OWN_EXIT_CODES:
                return code
        rank = min(codes, key=lambda rank: codes[rank])  # a signal is a negative number
        raise TrainingError(
            f"process {rank} of {processes} died (exit code {codes[rank]}); the others were "
            f"stopped, and the last checkpoint stays: go on with the same command without --resume"
        ) from failure
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0

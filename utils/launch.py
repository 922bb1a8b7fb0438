"""`--gpu 0,1`: one process a device, started and watched by PyTorch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from utils.errors import TrainingError
from utils.files import PROJECT

OWN_EXIT_CODES = {1, 2, 130, 143}  # a process that ends with one of these has said why


def already_launched() -> bool:
    """Return whether this process is one of several that a launcher has started."""
    return "LOCAL_RANK" in os.environ


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
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    command = ["-u", str(PROJECT / "ASD.py"), *argv]
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as failure:
        rank, first = failure.get_first_failure()
        if first.exitcode in OWN_EXIT_CODES:
            return int(first.exitcode)
        raise TrainingError(
            f"process {rank} of {processes} died (exit code {first.exitcode}); the others were "
            f"stopped, and the last checkpoint stays: go on with the same command without --resume"
        ) from failure
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0

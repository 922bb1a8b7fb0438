"""`--gpu 0,1`: one process a device, started, watched and ended together.

PyTorch's own launcher (`torchrun`) is for several machines: its processes meet at a port that the
whole network reaches, and they live on when it is killed. These meet in a file of this machine and
talk over its loopback interface, and each of them looks whether the launcher is still there.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from utils.console import say_error
from utils.errors import EXIT_CANNOT_TELL, EXIT_POISONED, TrainingError
from utils.files import PROJECT
from utils.interrupt import Interrupted
from utils.world import MEETING

DONE = {0, EXIT_POISONED, EXIT_CANNOT_TELL}  # exit codes of a process that has done its work
OWN_EXIT_CODES = {1, 2, 130, 143}  # of a process that has said why
LOST_CONTACT = 75  # of a process that ends because another one has
LAUNCHER = "ASD_LAUNCHER"  # in the environment of processes that `launch` has started: its number
TORCHRUN = "TORCHELASTIC_RUN_ID"  # likewise, of those that PyTorch's launcher has started
LOOK_EVERY = 0.2  # seconds between two looks at the processes, or at the launcher
GRACE = 2.0  # seconds; the process that failed first is to be seen first
PARTING = 6.0  # seconds that others have to end by themselves, and to save when nobody is left


def already_launched() -> bool:
    """Return whether this process is one of several that a launcher has started."""
    return "LOCAL_RANK" in os.environ


def report_lost_process() -> int:
    """Say that another process is gone, unless `launch` will; return the exit code for it."""
    time.sleep(GRACE)
    if LAUNCHER not in os.environ:
        say_error("another process of the run is gone; the last checkpoint stays")
    return LOST_CONTACT


def launch(argv: Sequence[str], processes: int) -> int:
    """Run `ASD.py` with `argv` in so many processes of this machine; return the exit code.

    Raises:
        TrainingError: a process died without a word.
        Interrupted: a signal came, and all processes have saved and ended.
    """
    with tempfile.TemporaryDirectory(prefix="asd-") as folder:
        workers = [
            _start(argv, rank, processes, Path(folder) / "meeting") for rank in range(processes)
        ]
        try:
            return _outcome(_watch(workers))
        except Interrupted as stop:
            for worker in workers:
                worker.send_signal(stop.exit_code - 128)
            for worker in workers:
                worker.wait()  # they look at every step; a second signal does not wait
            raise
        finally:
            _end(workers)


def _start(argv: Sequence[str], rank: int, size: int, meeting: Path) -> subprocess.Popen[bytes]:
    """Start one of the processes, shielded from the terminal's Ctrl-C, which comes through here."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    told = {name: str(number) for name, number in place.items()}
    told |= {MEETING: str(meeting), LAUNCHER: str(os.getpid())}
    # Processes with more threads in all than there are cores slow each other down twentyfold.
    chosen = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // size)), **loopback()}
    command = [sys.executable, "-u", str(PROJECT / "ASD.py"), *argv]
    return subprocess.Popen(command, env={**chosen, **os.environ, **told}, start_new_session=True)


def loopback() -> dict[str, str]:
    """Return the variables by which gloo and NCCL talk over this machine's loopback alone."""
    try:
        names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    except (OSError, AttributeError):  # not told on this system
        names = []
    variables = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    return {variable: names[0] for variable in variables if names}


def _watch(workers: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait until all processes have done their work, or one has failed; return the exit codes.

    After a failure the others have a while to end by themselves: they notice it, too.
    """
    deadline = None
    while True:
        codes = [worker.poll() for worker in workers]
        if None not in codes or (deadline is not None and time.monotonic() > deadline):
            return codes
        if deadline is None and any(code is not None and code not in DONE for code in codes):
            deadline = time.monotonic() + PARTING
        time.sleep(LOOK_EVERY)


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that are left."""
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


def _outcome(codes: Sequence[int | None]) -> int:
    """Return the exit code of a run whose processes ended with `codes`; None: they were ended.

    Raises:
        TrainingError: one of them died without a word.
    """
    failed = {rank: code for rank, code in enumerate(codes) if code not in DONE}
    if not failed:
        return max(code for code in codes if code is not None)
    for code in failed.values():
        if code in OWN_EXIT_CODES:
            return code
    # A signal is a negative number; who was ended from here, or lost another one, comes last.
    dead = {rank: code for rank, code in failed.items() if code not in (None, LOST_CONTACT)}
    rank = min(dead or failed, key=lambda rank: failed[rank] or 0)
    raise TrainingError(
        f"process {rank} of {len(codes)} died (exit code {failed[rank]}); the others were "
        f"stopped, and the last checkpoint stays: go on with the same command without --resume"
    )


def follow_launcher() -> None:
    """In a process that a launcher has started: end when the launcher is gone.

    First as after a SIGTERM, which all processes see together, so that they save; whoever is still
    there after a while ends at once. Where the system gives no new parent to a process that has
    lost its own (Windows), nothing is watched.
    """
    launched = LAUNCHER in os.environ or TORCHRUN in os.environ
    if launched and os.name == "posix":
        launcher = os.environ.get(LAUNCHER, "")
        parent = int(launcher) if launcher.isdecimal() else os.getppid()
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PARTING)
    os._exit(LOST_CONTACT)

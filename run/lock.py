"""One run's folder, one process that trains into it.

The lock lies beside the folder, since an earlier run's folder is renamed when a run starts anew. It
is the system's own and ends with the process, however that ends. Reading needs no lock: every file
of a run appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from run.resume import Resumption
from utils.errors import InputError
from utils.files import read_regular, write_text

PATIENCE = 1.0  # seconds; longer than another process looks whether the lock is held
MOST_BYTES = 4096  # of the file that tells who holds the lock


def lock_file(folder: Path) -> Path:
    """Return the lock of a run's folder, the same by whatever link the folder is reached."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.lock")


def holder_file(folder: Path) -> Path:
    """Return where the holder says who it is; on Windows nobody else may read the lock itself."""
    return lock_file(folder).with_suffix(".json")


@contextmanager
def sole_writer(folder: Path, start: Resumption) -> Iterator[None]:
    """Keep other processes from writing into a run's folder while the block runs.

    Args:
        folder: of the run; perhaps it is not there yet.
        start: what was found there before the lock was taken.

    Raises:
        InputError: another process is writing into it, or has done so since `start` was read, or
            the lock cannot be made.
    """
    lock = FileLock(lock_file(folder))
    try:
        lock_file(folder).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise refusal(folder) from None
    except (OSError, NotImplementedError) as error:
        why = f"{folder} cannot be locked ({error}); name another storage_dir"
        raise InputError(f"storage_dir: {why}") from error
    try:
        start.refuse_if_changed()
        who = {"process": os.getpid(), "host": socket.gethostname()}
        write_text(holder_file(folder), json.dumps(who) + "\n")
        yield
    finally:
        lock.release()


def refuse_if_held(folder: Path) -> None:
    """Raise `InputError` if another process is writing into a run's folder; change nothing.

    To be asked before the data are read, which may take minutes; `sole_writer` decides.
    """
    if is_held(folder):
        raise refusal(folder)


def is_held(folder: Path) -> bool:
    """Return whether another process is writing into a run's folder; change nothing."""
    if not lock_file(folder).is_file():
        return False
    lock = FileLock(lock_file(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False  # storage that cannot be written; `sole_writer` says so
    lock.release()
    return False


def refusal(folder: Path) -> InputError:
    """Return the error for a folder that is held."""
    return InputError(
        f"{folder}: is being written by {holder(folder)}; wait, or give another --name"
    )


def holder(folder: Path) -> str:
    """Return who holds the lock, for a message: `process 4711 on node3`."""
    try:
        who = json.loads(read_regular(holder_file(folder), MOST_BYTES))
        return f"process {int(who['process'])} on {str(who['host'])[:80]}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"  # it has just started

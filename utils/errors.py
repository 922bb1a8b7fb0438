"""The two ways in which a run ends early, and the exit code of each."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows knows no quota
LOCKED = {errno.EROFS, errno.EACCES, errno.EPERM}

# Of a run that is done, where `--fail-on-suspicion` asks what it thinks of the data.
EXIT_POISONED, EXIT_CANNOT_TELL = 3, 4


class InputError(Exception):
    """Wrong use or input: one line (what, where, what to do), exit code 2, no traceback."""

    exit_code = 2


class TrainingError(Exception):
    """A failure while running (disk full, loss not finite): one line, exit code 1."""

    exit_code = 1


def of_system(error: OSError) -> str:
    """Return the line for what the system has refused, wherever in a program that was."""
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{why_refused(error)}"


def why_refused(error: BaseException) -> str:
    """Return why the system has refused something, and what to do, for the end of a line.

    Args:
        error: of the system, or one that a library has raised while it handled that.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__  # torch.save tells of a full disk as a wrong position in the file
    if cause is None:
        return " ".join(str(error).split())
    why = cause.strerror or str(cause)
    if cause.errno in FULL:
        return f"the disk is full ({why}); free a part of it"
    if cause.errno in LOCKED:
        return f"{why}; make it accessible, or name another place"
    return why


def by_nearness(word: str, known: Iterable[str], count: int = 8) -> list[str]:
    """Return up to `count` of the known words, the nearest to `word` first."""
    return difflib.get_close_matches(word, sorted(known), n=count, cutoff=0.3)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to `word`.

    Where none is near, the hint lists all known words, since a short list helps more than none.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(names)})" if names else ""

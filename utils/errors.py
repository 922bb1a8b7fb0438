"""The two ways in which a run ends early, and the exit code of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Of a run that is done, where `--fail-on-suspicion` asks what it thinks of the data.
EXIT_POISONED, EXIT_CANNOT_TELL = 3, 4


class InputError(Exception):
    """Wrong use or input: one line (what, where, what to do), exit code 2, no traceback."""

    exit_code = 2


class TrainingError(Exception):
    """A failure while running (disk full, loss not finite): one line, exit code 1."""

    exit_code = 1


def of_system(error: OSError) -> str:
    """Return the line for what the system has refused."""
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}"


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

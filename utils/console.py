"""What a person sees: lines, bars and one table row an epoch; quiet where nobody watches.

All that the program prints passes here and is made printable, on stdout and on stderr.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tabulate import tabulate
from tqdm import tqdm

from utils.output import deliver, is_watched
from utils.printable import clipped, fitting, printable

Item = TypeVar("Item")
HEADER_EVERY = 20  # rows
WITHOUT_ESTIMATE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # of a bar
_silent = False  # in all processes of a run but the first


def be_silent(silent: bool) -> None:
    """Print nothing from now on, or print again."""
    global _silent
    _silent = silent


class Lines(str):
    """Text whose line breaks are meant, as a table's; in all other text they are a name's."""

    __slots__ = ()


def say(line: str) -> None:
    """Print a line, or `Lines`, without disturbing a progress bar."""
    if _silent:
        return
    lines = line.split("\n") if isinstance(line, Lines) else [line]
    text = "\n".join(map(printable, lines))
    deliver(sys.stdout, lambda file: tqdm.write(fitting(text, file.encoding), file=file))


def say_error(message: str) -> None:
    """Print the one line on stderr that a failure is told in."""
    say_aside(f"error: {message}")


def say_aside(line: str) -> None:
    """Print a line on stderr, where stdout is for a program to read."""
    text = clipped(printable(line))
    deliver(sys.stderr, lambda file: tqdm.write(fitting(text, file.encoding), file=file))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the warnings of libraries off the screen: they are for people who write programs.

    `python -W default` shows them.
    """
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def progress(
    items: Iterable[Item],
    description: str,
    unit: str,
    leave: bool = False,
    total: int | None = None,
    own_time: bool = False,
) -> tqdm[Item]:
    """Return `items` with a progress bar, which is shown on a terminal only.

    Args:
        items: to go through.
        description: of the bar.
        unit: of an item.
        leave: whether the bar stays at its end.
        total: their number, where they do not tell it themselves.
        own_time: whether the caller says in the postfix what time is left; the bar would take all
            items for equally long.
    """
    look: dict[str, Any] = {"leave": leave, "disable": _silent or not is_watched()}
    if own_time:
        look["bar_format"] = WITHOUT_ESTIMATE
    return tqdm(
        items, desc=printable(description), unit=unit, total=total, dynamic_ncols=True, **look
    )


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show the seconds that the block takes, on a terminal only: it tells nothing of its parts."""
    ended = threading.Event()

    def count(bar: tqdm[None]) -> None:
        while not ended.wait(1.0):
            bar.update()

    nothing: tuple[None, ...] = ()
    with progress(nothing, description, unit="s") as bar:
        counter = threading.Thread(target=count, args=(bar,), daemon=True)
        counter.start()
        try:
            yield
        finally:
            ended.set()
            counter.join()


class EpochTable:
    """Prints one row an epoch, its columns aligned with those of the rows before."""

    def __init__(self) -> None:
        self._printed = 0
        self._widths: dict[str, int] = {}

    def row(self, values: Mapping[str, str]) -> None:
        """Print a row; the header comes first and again from time to time."""
        for name, value in values.items():
            self._widths[name] = max(self._widths.get(name, len(name)), len(value))
        cells = [value.rjust(self._widths[name]) for name, value in values.items()]
        header = [name.rjust(self._widths[name]) for name in values]
        if self._printed % HEADER_EVERY == 0:
            say(plain_row(header))
        self._printed += 1
        say(plain_row(cells))


def plain_row(cells: list[str]) -> str:
    """Return one row of a table without lines; cells are padded already, so that rows align."""
    return tabulate([cells], tablefmt="plain", disable_numparse=True, preserve_whitespace=True)


def table(rows: Sequence[Any], headers: str | Sequence[str] = ()) -> Lines:
    """Return a table as text; `headers="keys"` for rows that are mappings."""
    style = "github" if headers else "plain"
    look: dict[str, Any] = {"tablefmt": style, "disable_numparse": True}
    titles = headers if isinstance(headers, str) else [printable(title) for title in headers]
    cells = [printable_row(row) for row in rows]
    return Lines(tabulate(cells, headers=titles, preserve_whitespace=True, **look))


def printable_row(row: Any) -> Any:
    """Return a row of a table, a mapping or a sequence, with texts that a terminal may have."""
    if isinstance(row, Mapping):
        return {printable(str(title)): printable_cell(cell) for title, cell in row.items()}
    return [printable_cell(cell) for cell in row]


def printable_cell(cell: Any) -> Any:
    """Return a cell; a text as a terminal may have it."""
    return printable(cell) if isinstance(cell, str) else cell


def percent(fraction: float | None) -> str:
    """Return a fraction of 1 in percent, with two digits; a dash for None."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


# Columns of the log under shorter names; the rest of the log would not fit on a screen.
SHOWN = {
    "epoch": "epoch",
    "stage": "stage",
    "split": "split",
    "loss": "loss",
    "lambda_u": "lambda_u",
    "clean_pool": "clean pool",
    "poisoned_in_clean_pool": "poisoned in it",
    "tpr": "TPR",
    "fpr": "FPR",
    "auroc": "AUROC",
    "acc": "ACC",
    "asr": "ASR",
    "seconds": "seconds",
    "images_per_second": "images/s",
}


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the part of a log row that the screen shows, as text by column title."""
    return {title: readable(name, row[name]) for name, title in SHOWN.items() if name in row}


def readable(name: str, value: Any) -> str:
    """Return a value of the log as a person wants to read it."""
    if value is None:
        return "-"
    if name in {"acc", "asr", "tpr", "fpr"}:
        return f"{100 * value:.1f}%"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
    return str(value)

"""Tables and lists that people make: one strict reader for all of them, and one writer.

A spreadsheet saves a table in other ways than it was given: with semicolons or tabs, in UTF-16 or
Windows-1252. What can be known for certain is read; what cannot is refused with the line's number,
since a row that is lost here is poison that stays.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils.cells import defuse, undo
from utils.errors import InputError
from utils.texts import SEPARATORS, Text

SHOWN_COLUMNS = 6  # of a header that lacks one, in the line about it
BOM = "\ufeff"

Cells = list[str]


@dataclass(frozen=True)
class Row:
    """A row of a table: its line's number from 1, and its cells by column."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table with a header; the columns' names are in lower case."""

    text: Text
    columns: tuple[str, ...]
    rows: list[Row]


def records(
    text: Text, fits: Callable[[Cells], bool], comments: bool = False
) -> Iterator[tuple[int, Cells]]:
    """Yield the number of each line that is not empty, and its cells.

    Every line stands for itself: a quote that is opened in it must be closed in it, so that no row
    disappears in the cell of another one.

    Args:
        text: of the file.
        fits: whether the cells of the first line make sense, by which the separator is found.
        comments: leave out lines that begin with `#`.

    Raises:
        InputError: a line is no CSV.
    """
    numbered = (
        (number, line)
        for number, line in enumerate(text.lines, 1)
        if line.strip() and not (comments and line.lstrip().startswith("#"))
    )
    separator = text.separator
    for number, line in numbered:
        if separator is None:
            separator = find_separator(line, fits)
        cells = split_line(line, separator, text.line(number))
        if any(cell.strip() for cell in cells):
            yield number, cells


def find_separator(line: str, fits: Callable[[Cells], bool]) -> str:
    """Return the separator with which the first line makes sense; else the one of most cells."""
    split: dict[str, Cells] = {}
    for separator in SEPARATORS:
        try:
            split[separator] = split_line(line, separator, "")
        except InputError:
            continue
    return next(
        (separator for separator, cells in split.items() if fits(cells)),
        max(split, key=lambda separator: len(split[separator]), default=","),
    )


def split_line(line: str, separator: str, where: str) -> Cells:
    """Return the cells of one line, with formulas as the names that they were.

    Raises:
        InputError: a quote is not closed, or something follows it.
    """
    try:
        cells = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error as error:
        reason = str(error)
        if "end of data" in reason:
            reason = 'a quote (") is opened and not closed in this line'
        raise InputError(f"{where}: no CSV: {reason}") from error
    return [undo(cell) for cell in cells]


def read_table(text: Text, needed: Sequence[str]) -> Table:
    """Return the table in a file, whose first line names its columns.

    Args:
        text: of the file.
        needed: columns that must be there, in lower case; the first one tells the separator.

    Raises:
        InputError: no CSV, a column is missing or there twice, or a row has more cells than there
            are columns.
    """
    found = records(text, lambda cells: needed[0] in column_names(cells))
    columns = column_names(next(found, (1, []))[1])
    refuse_columns(columns, needed, text)
    rows = []
    for number, cells in found:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise InputError(
                f"{text.line(number)}: {len(cells)} cells, but the first line names "
                f"{len(columns)} columns; a name that holds the separator needs quotes"
            )
        missing = [""] * (len(columns) - len(cells))
        rows.append(Row(number, dict(zip(columns, [*cells, *missing], strict=False))))
    return Table(text, tuple(columns), rows)


def column_names(cells: Cells) -> Cells:
    """Return a header's names as they are compared."""
    return [cell.strip().lower() for cell in cells]


def refuse_columns(columns: Sequence[str], needed: Sequence[str], text: Text) -> None:
    """Raise `InputError` where a needed column is missing or there twice."""
    for column in needed:
        if column not in columns:
            raise InputError(f"{text.where} has no column {column!r}; {remedy(columns, needed)}")
        if columns.count(column) > 1:
            raise InputError(f"{text.where} has two columns {column!r}; take one out")


def remedy(columns: Sequence[str], needed: Sequence[str]) -> str:
    """Return what to do about a header without a needed column."""
    wanted = f"its first line must name {' and '.join(needed)}"
    for separator, name in SEPARATORS.items():
        if any(needed[0] in column_names(cell.split(separator)) for cell in columns):
            return (
                f"one cell holds several columns: it was opened with another separator; import it "
                f"with {name}"
            )
    more = ", ..." if len(columns) > SHOWN_COLUMNS else ""
    shown = ", ".join(repr(column[:40]) for column in columns[:SHOWN_COLUMNS])
    return f"{wanted}, and names {shown or 'nothing'}{more}"


# ---------------------------------------------------------------------------------- the writing


def table_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], mark: bool = False
) -> str:
    """Return a table as CSV with commas; cells that a spreadsheet would run are defused.

    Args:
        columns: in their order; a row without one of them has an empty cell there.
        rows: by column; what is in no column is left out.
        mark: begin with a byte order mark, without which spreadsheets take UTF-8 for another
            encoding.
    """
    text = io.StringIO()
    text.write(BOM if mark else "")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(defused(column) for column in columns)
    writer.writerows([defused(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def defused(value: Any) -> Any:
    """Return a text as a cell that no spreadsheet runs; a number stays one."""
    return defuse(value) if isinstance(value, str) else value

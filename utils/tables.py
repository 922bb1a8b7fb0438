"""Tables and lists that people make: one strict reader for all of them, and one writer.

A spreadsheet saves a table in other ways than it was given: with semicolons or tabs, in UTF-16 or
Windows-1252. What can be known for certain is read; what cannot is refused with the line's number,
since a row that is lost here is poison that stays.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.cells import defuse, undo
from utils.errors import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
MOST_BYTES = 256 * 2**20  # some million rows
SHOWN_COLUMNS = 6  # of a header that lacks one, in the line about it
BOM = "\ufeff"
LINE_END = re.compile("\r\n|\r|\n")  # str.splitlines would also cut at signs that names may hold
SEPARATOR_LINE = re.compile('"?sep=(.)"?', re.IGNORECASE)
SAVE_AS = "save it as CSV UTF-8"
# By the first bytes; UTF-32 begins as UTF-16 does and so comes first.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LEGACY = "cp1252"  # what spreadsheets write in Western Europe and America unless told otherwise

Cells = list[str]


@dataclass(frozen=True)
class Text:
    """The text of a file.

    Attributes:
        where: the setting that named the file, and the file, for messages.
        lines: without their ends; a line that names the separator is left empty.
        encoding: that it was read with.
        separator: named by the first line (`sep=;`); None where it names none.
    """

    where: str
    lines: list[str]
    encoding: str
    separator: str | None = None

    def line(self, number: int) -> str:
        """Return where the line `number`, from 1, is."""
        return f"{self.where}, line {number}"

    @property
    def is_json(self) -> bool:
        """Whether it begins as JSON does, and as no table."""
        first = next((line.lstrip() for line in self.lines if line.strip()), "")
        return first.startswith(("[", "{"))

    @property
    def doubt(self) -> str:
        """What to say of a name that is not found; nothing where the encoding is certain."""
        return f"; the file was read as Windows-1252, {SAVE_AS}" if self.encoding == LEGACY else ""


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


# ------------------------------------------------------------------------------------- the text


def read_text(file: Path, key: str, raw_names: bool = False) -> Text:
    """Return the text of `file`, in whatever encoding a spreadsheet or an editor saved it.

    Args:
        file: to be read.
        key: the setting that named it.
        raw_names: keep bytes that are no UTF-8, as Python does in the names of files, in place of
            taking the file for one in Windows-1252.

    Raises:
        InputError: unreadable, too large, or no text.
    """
    where = f"{key}: {file}"
    body, encoding = decode(read_bytes(file, where), where, raw_names)
    if "\0" in body:
        raise InputError(f"{where} is no text (it holds a NUL); {SAVE_AS}")
    lines = LINE_END.split(body)
    named = SEPARATOR_LINE.fullmatch(lines[0].strip(" "))
    if named is None:
        return Text(where, lines, encoding)
    if named[1] not in SEPARATORS:
        known = ", ".join(SEPARATORS.values())
        raise InputError(f"{where}, line 1: the separator {named[1]!r} is none of {known}")
    return Text(where, ["", *lines[1:]], encoding, named[1])


def read_bytes(file: Path, where: str) -> bytes:
    """Return the content of `file`.

    Raises:
        InputError: it cannot be read or is too large.
    """
    try:
        with file.open("rb") as stream:
            body = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{where} cannot be read ({reason})") from error
    if len(body) > MOST_BYTES:
        raise InputError(f"{where} is larger than {MOST_BYTES >> 20} MiB, too large for a table")
    return body


def decode(body: bytes, where: str, raw_names: bool) -> tuple[str, str]:
    """Return the text of `body` and its encoding; see `read_text`."""
    mark = next((mark for mark in MARKS if body.startswith(mark)), b"")
    encoding = MARKS[mark] if mark else guess_encoding(body)
    errors = "surrogateescape" if raw_names and encoding == "utf-8" else "strict"
    try:
        return body[len(mark) :].decode(encoding, errors), encoding
    except UnicodeDecodeError as error:
        if mark or encoding != "utf-8":
            raise no_text(where, encoding.upper(), error) from error
    try:
        return body.decode(LEGACY), LEGACY
    except UnicodeDecodeError as error:
        raise no_text(where, "UTF-8, UTF-16 or Windows-1252", error) from error


def guess_encoding(body: bytes) -> str:
    """Return the encoding of a text without a mark: every other byte of UTF-16 is mostly zero."""
    head = body[:4096]
    first, second = head[::2].count(0), head[1::2].count(0)
    if not head or max(first, second) * 4 < len(head):  # less than half of that half
        return "utf-8"
    return "utf-16-be" if first > second else "utf-16-le"


def no_text(where: str, encoding: str, error: UnicodeDecodeError) -> InputError:
    """Return the error for bytes that are no text."""
    return InputError(
        f"{where} is no text in {encoding} (byte {error.start}: {error.reason}); {SAVE_AS}"
    )


# ------------------------------------------------------------------------------------ the cells


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

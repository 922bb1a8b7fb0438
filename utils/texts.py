"""Texts that people save, in whatever encoding their programs choose.

What can be known for certain is read; what cannot is refused with a line that says how to save it.
"""

from __future__ import annotations

import codecs
import errno
import re
from dataclasses import dataclass
from pathlib import Path

from utils.errors import InputError
from utils.files import read_regular

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
MOST_BYTES = 256 * 2**20  # some million rows
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
        return read_regular(file, MOST_BYTES)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            reason = f"is larger than {MOST_BYTES >> 20} MiB, too large for a table"
        else:
            told = error.strerror if isinstance(error, OSError) else error
            reason = f"cannot be read ({told})"
        raise InputError(f"{where} {reason}") from error


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

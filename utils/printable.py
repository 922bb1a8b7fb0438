"""Text for a terminal: whatever names hold, a line stays a line and says what it seems to say.

Names of files, classes, keys and runs may be a stranger's. An escape sequence in one of them moves
the cursor or sets colours, a line break forges a line of ours, a control of writing direction turns
a name around, and bytes of another encoding crash `print`.
"""

from __future__ import annotations

import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's controls, formats, surrogates, separators
JOINERS = "\u200c\u200d"  # parts of Persian words and of emoji
RAW_BYTES = range(0xDC80, 0xDD00)  # as which Python keeps bytes that are no UTF-8
LONGEST_ERROR = 300  # characters of the one line that a failure is told in
KEPT_END = 100  # of them for the end, where it says what to do
GAP = " ... "


def printable(text: str) -> str:
    r"""Return `text` with all that a terminal would obey or hide written out, as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(map(visible, text))


def visible(character: str) -> str:
    """Return a character that one can see: itself, or how Python writes it."""
    code = ord(character)
    if unicodedata.category(character) not in HIDDEN or character in JOINERS:
        return character
    if code in RAW_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) == "Cs":
        return f"\\u{code:04x}"
    return character.encode("unicode_escape").decode("ascii")


def fitting(text: str, encoding: str | None) -> str:
    """Return `text` with what the encoding of a stream does not know written out."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def clipped(line: str, length: int = LONGEST_ERROR) -> str:
    """Return a line of at most `length` characters; what is too long loses its middle."""
    if len(line) <= length:
        return line
    return line[: length - KEPT_END - len(GAP)] + GAP + line[-KEPT_END:]

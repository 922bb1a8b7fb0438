"""Cells of a table that a spreadsheet would run: defused when written, undone when read.

A class folder may be called `=HYPERLINK(...)`. A spreadsheet takes a cell that begins so for a
formula; an apostrophe before it makes it text. Names that begin with apostrophes of their own get
one more, so that undoing gives back every name exactly.
"""

from __future__ import annotations

import re

# What starts a formula, also in the full width of East Asian keyboards.
STARTS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
# A table opened with another separator than it has begins a new cell after that one.
BEGINS = "(?<![^;\t])"
DANGEROUS = re.compile(f"{BEGINS}(?='*[{STARTS}])")
DEFUSED = re.compile(f"{BEGINS}'(?='*[{STARTS}])")


def defuse(text: str) -> str:
    """Return `text` as a cell that no spreadsheet runs."""
    return DANGEROUS.sub("'", text)


def undo(cell: str) -> str:
    """Return the text that `defuse` made `cell` of; a cell that needed nothing stays as it is."""
    return DEFUSED.sub("", cell)

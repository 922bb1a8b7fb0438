"""What a person has written into `suspects.csv`: it goes on into the next one, or is kept aside.

A review begins with this file: a person adds a column `verdict`, and `review:` names the file. The
next report is written to the same place, and nothing of a person's work may be lost by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import InputError
from utils.tables import read_table
from utils.texts import MOST_BYTES, read_text


@dataclass(frozen=True)
class Marks:
    """What a person has added to a table of samples.

    Attributes:
        columns: of the person, in lower case, in their order; without those that are empty.
        cells: of each file that has something in these, by column.
    """

    columns: tuple[str, ...] = ()
    cells: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def on(self, file: str) -> dict[str, str]:
        """Return what was written beside a sample; empty cells where nothing was."""
        said = self.cells.get(file, {})
        return {column: said.get(column, "") for column in self.columns}


def read_marks(path: Path, is_own: Callable[[str], bool]) -> Marks | None:
    """Return what a person has added to the table at `path`; None where it is no such table.

    Args:
        path: of a table that the report before has written; it need not exist.
        is_own: says whether a column's name is the report's.
    """
    if not path.exists() or path.stat().st_size > MOST_BYTES:  # the latter can be no review
        return Marks()
    try:
        table = read_table(read_text(path, "report", raw_names=True), ("file",))
    except InputError:
        return None
    added = [column for column in dict.fromkeys(table.columns) if column and not is_own(column)]
    found = {
        row.cells["file"]: {name: row.cells[name] for name in added if row.cells[name].strip()}
        for row in table.rows
    }
    cells = {file: said for file, said in found.items() if said}
    columns = tuple(name for name in added if any(name in said for said in cells.values()))
    return Marks(columns, cells)

"""The table of all methods says what the files in `results/` say, on both pages that have it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from utils.files import PROJECT

COLUMNS = ("none", "fine_pruning", "nad", "abl", "dbd", "")  # of the files' names; ASD's have none
FOLDERS = {"": "table", "*": "table_earlier", "**": "table_h200"}  # by the mark behind the attack


def rows(page: Path) -> list[list[str]]:
    """Return the cells of the rows of the table that has the six methods as columns."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index("| attack | no defence | FP | NAD | ABL | DBD | ASD |") + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def told(attack: str, method: str, folder: str) -> str:
    """Return what the file of a run says, as a cell has it."""
    name = "_".join(part for part in (attack, method, "100") if part)
    file = PROJECT / "results" / folder / f"{name}.json"
    if not file.is_file():
        return "not run"
    result = json.loads(file.read_text(encoding="utf-8"))
    return f"{100 * result['acc']:.1f} / {100 * result['asr']:.1f}"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_each_cell_is_what_its_file_says(page: str) -> None:
    table = rows(PROJECT / page)
    assert len(table) >= 6
    for marked, *cells in table:
        attack = marked.rstrip("*")
        folder = FOLDERS[marked[len(attack) :]]
        assert cells == [told(attack, method, folder) for method in COLUMNS], marked


def test_the_rows_of_a_narrow_network_are_what_their_files_say() -> None:
    lines = (PROJECT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    heads = [line for line in lines if line.endswith("| recall of «cat», plain / ASD |")]
    start = max(index for index, line in enumerate(lines) if line in heads) + 2
    table = [line.strip("|").split("|") for line in lines[start : start + 6]]
    assert len(table) == len({row[0] for row in table})
    for attack, *cells, recalls in ([cell.strip() for cell in row] for row in table):
        assert cells == [told(attack, method, "table_width16") for method in COLUMNS], attack
        files = (f"{attack}_none_100.json", f"{attack}_100.json")
        found = [json.loads((PROJECT / "results" / "table_width16" / f).read_text()) for f in files]
        assert recalls == " / ".join(f"{result['recalls']['cat']:.2f}" for result in found)

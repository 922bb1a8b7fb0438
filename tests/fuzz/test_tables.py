"""Any name survives a table, in every encoding and with every separator; any bytes are answered.

`FUZZ_EXAMPLES=2000` goes deeper than the few examples that every run of the tests takes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.poison import TrainingSet
from data.review import read_review
from data.seeds import read_seeds
from utils.cells import defuse, undo
from utils.errors import InputError
from utils.tables import read_table, table_text
from utils.texts import SEPARATORS, read_text

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
deeply = settings(max_examples=EXAMPLES, deadline=None)

LONGEST = 300  # characters of an error's line
# Names without what no file system or no line of a table holds.
signs = st.one_of(
    st.sampled_from("=+-@';,\t\"#| aü/.\u2028\uff1d"),
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r\n"),
)
names = st.text(signs, min_size=1, max_size=12).filter(str.strip)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


def written(body: bytes, suffix: str = ".csv") -> Path:
    """Return a file with `body` in a folder of its own."""
    file = Path(tempfile.mkdtemp(prefix="asd-fuzz-")) / f"x{suffix}"
    file.write_bytes(body)
    return file


def remove(file: Path) -> None:
    file.unlink()
    file.parent.rmdir()


@deeply
@given(st.text(signs, max_size=12))
def test_a_cell_is_undone_exactly(name: str) -> None:
    assert undo(defuse(name)) == name
    assert not defuse(name).startswith(("=", "+", "-", "@", "\t"))


@deeply
@given(st.lists(names, min_size=1, max_size=5, unique=True), encodings)
def test_what_is_written_is_read(found: list[str], encoding: str) -> None:
    text = table_text(["file", "rank"], [{"file": name, "rank": 1} for name in found])
    file = written(text.encode(encoding))
    table = read_table(read_text(file, "report"), ("file", "rank"))
    remove(file)
    assert [row.cells["file"] for row in table.rows] == found


@deeply
@given(st.lists(names, min_size=1, max_size=5, unique=True), st.sampled_from([*SEPARATORS]))
def test_what_another_program_writes_is_read(found: list[str], separator: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("file", "verdict"), *((defuse(name), "clean") for name in found)])
    file = written(text.getvalue().encode())
    table = read_table(read_text(file, "review"), ("file", "verdict"))
    remove(file)
    assert [row.cells["file"] for row in table.rows] == found


SET = TrainingSet(
    torch.zeros(4, 2, 2, 3, dtype=torch.uint8),
    torch.tensor([0, 0, 1, 1]),
    ("a", "b"),
    files=("train/a/1.png", "train/a/=2.png", "train/b/ü.png", "train/b/x;y.png"),
)
NUMBERED = TrainingSet(SET.images, SET.labels, SET.classes)
WORDS = ("file", "verdict", "label", "clean", "poisoned", "0", "3", "-1", "9" * 30, "a", "b", "=1")
MARKS = (",", ";", "\t", "\n", "\r", '"', "'", "#", "sep=;", "\ufeff", "\0", " ")
pieces = st.sampled_from([*WORDS, *MARKS, *(SET.files or ())])
bodies = st.one_of(
    st.binary(max_size=60),
    st.lists(pieces, max_size=24).map(lambda parts: "".join(parts).encode()),
    st.lists(pieces, max_size=24).map(lambda parts: "".join(parts).encode("utf-16")),
)


def refusal(read: Callable[[], object]) -> str:
    """Return the line with which input is refused; nothing where it is read."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


@deeply
@given(bodies, st.sampled_from([SET, NUMBERED]), st.sampled_from([".csv", ".txt", ".npy"]))
def test_any_bytes_are_read_or_refused_in_a_line(
    body: bytes, training: TrainingSet, suffix: str
) -> None:
    file = written(body, suffix)
    lines = [
        refusal(lambda: read_review(str(file), training)),
        refusal(lambda: read_seeds(str(file), training, 1)),
    ]
    remove(file)
    assert all(len(line.splitlines()) <= 1 and len(line) <= LONGEST for line in lines)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), pieces, st.sampled_from(["x", "data/ü"])
)
KEYS = ("samples", "labels", "tags", "label", "filepath", "file", "attributes", "data", "image")
MORE = ("annotations", "result", "from_name", "value", "choices", "verdict", "was_cancelled")
contents = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([*KEYS, *MORE]), inner, max_size=4),
    ),
    max_leaves=20,
)


@deeply
@given(contents, st.sampled_from([SET, NUMBERED]))
def test_any_export_is_read_or_refused_in_a_line(content: object, training: TrainingSet) -> None:
    file = written(json.dumps(content).encode(), ".json")
    line = refusal(lambda: read_review(str(file), training))
    remove(file)
    assert len(line.splitlines()) <= 1 and len(line) <= LONGEST

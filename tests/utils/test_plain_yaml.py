"""The YAML reader: plain data of bounded size, each fault in one line."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NO_FILES
from utils.errors import InputError
from utils.plain_yaml import DEEPEST, LARGEST_FILE, MOST_NODES, parse_yaml, read_yaml

LETTERS = "abcdefghi"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join(['*' + before] * 10)}]\n"
    for before, one in itertools.pairwise(LETTERS)
)


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "here")
    message = str(caught.value)
    assert message.startswith("here")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (BOMB, "more than 20,000 values"),
        ("- x\n" * MOST_NODES, "more than 20,000 values"),
        ("[" * 50_000, "levels in each other"),
        ("{a: " * 50_000, "levels in each other"),
        ("- " * 200, "levels in each other"),
        ("a: &a [[[[[[[[[[x]]]]]]]]]]\nb: &b [[[[[[[[[[*a]]]]]]]]]]\nc: [[[[[[[[[[[[*b]]]]]]]]]]]]",
         "line 3: more than 32 levels"),
        ("global: &g {a: *g}", "*g stands inside of what it repeats"),
        ("a: &g\n  - *g", "*g stands inside of what it repeats"),
        ("a: *g", "*g repeats what is not there"),
        ("{{ x }}", "a key is a word"),
        ("? [1]\n: 2", "a key is a word"),
        ("? {a: 1}\n: 2", "a key is a word"),
        ("base: &b {x: 1}\nother: {<<: *b}", "<< is not read"),
        ("a: 1\n'a': 2", "given twice"),
        ("1: a\n'1': b", "given twice"),
        ("n: 1" + "0" * 400, "a number of 401 digits"),
        ("n: " + "1:" * 5000 + "1", "a number of 10,001 digits"),
        ("n: 010", "line 1: '010' would not be read to the base of 10"),
        ("n: -017", "base of 10"),
        ("n: [1, 0_7]", "base of 10"),
        ("n: 1:30", "base of 10"),
        ("n: 1:30.5", "base of 10"),
        (f"n: {2**63}", "below 2^63"),
        (f"n: -{2**63 + 1}", "below 2^63"),
        ("n: !!timestamp foo", "timestamp"),
        ("n: !!binary aGk=", "binary"),
        ("n: !!set {x}", "set"),
        ("n: !!python/name:os.system x", "python/name"),
        ("n: !own x", "'!own' is no plain data"),
        ("n: !!int ''", "'' is no int"),
        ("n: !!float {x: 1}", "single value"),
        ("n: !!bool maybe", "'maybe' is no bool"),
        ("!!map [1]", "a mapping of keys is expected"),
        ('n: "\\ud800"', "half of a character"),
        ('n: "\\U00110000"', "no valid YAML"),
        ("n: \x1b[31m", "U+001B"),
        ("n: \udce9", "U+DCE9"),
        ("a: 1\n---\nb: 1", "line 2"),
        ("a: [1", "line 1"),
        ("%YAML 9.9\n--- a", "line 1"),
    ],
    ids=lambda value: "".join(filter(str.isalnum, value))[:12],
)  # fmt: skip
def test_what_is_no_bounded_plain_data_is_one_line(text: str, part: str) -> None:
    assert part in refused(text)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", None),
        ("a: 1e-3", {"a": 0.001}),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("{1: 2, on: 3, null: 4, 2024-01-01: 5}", {"1": 2, "on": 3, "null": 4, "2024-01-01": 5}),
        (f"n: {2**63 - 1}", {"n": 2**63 - 1}),
        (f"n: -{2**63}", {"n": -(2**63)}),
        ("a: .inf", {"a": float("inf")}),
        ("a: [yes, no, ~, '1', 0x10]", {"a": [True, False, None, "1", 16]}),
        ("[" * DEEPEST + "]" * DEEPEST, None),
    ],
)
def test_plain_data_are_read(text: str, data: Any) -> None:
    found = parse_yaml(text, "here")
    if text.startswith("[["):
        for _ in range(DEEPEST - 1):
            (found,) = found
        data = []
    assert found == data


def test_a_deeper_list_than_the_deepest_is_refused() -> None:
    assert "levels" in refused("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2))


@pytest.mark.parametrize("kind", [*NO_FILES, "missing", "large", "latin"])
def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.yaml"
    if kind in NO_FILES:
        NO_FILES[kind](path)
    elif kind == "large":
        path.write_bytes(b"#" * (LARGEST_FILE + 1))
    elif kind == "latin":
        path.write_bytes("a: Größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"^--config x: (cannot be read|is not written in UTF-8)"):
        read_yaml(path, "--config x")


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffa: Größe".encode())
    assert read_yaml(path, "x") == {"a": "Größe"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('a: 1\nb: "x\nc: 2\n', ", line 2: a quote is opened here and not closed"),
        ("a: 1\nb: 'x\n", ", line 2: a quote is opened here and not closed"),
        ("a: 1\nb: [1, 2\nc: 3\n", ", line 2: a list begins here by [, and lacks a comma or its ]"),
        ("a: {x: 1\nb: 3\n", ", line 1: a mapping begins here by {, and lacks a comma or its }"),
        ("a: 1\nkey\nb: 1", ", line 2: a key without a colon"),
        ("a: 1\n---\nb: 2\n", ", line 2: --- begins a second document"),
        ("a:\n\tb: 1\n", ", line 2: a tab, which indents nothing; use blanks"),
        ("a: 1\nb: @x\n", ", line 2: no value begins with this sign; put the value in quotes"),
        ("a: b: c\n", ", line 1: a colon where none is expected"),
        ("a:\n  b: 1\n c: 2\n", ", line 3: does not belong to what stands above"),
        ("a: 1\n- b\n", ", line 2: does not belong to what stands above"),
        ("  a: 1\nb: 2\n", ", line 2: does not belong to what stands above"),
        ('a: "C:\\Users"\n', ", line 1: in double quotes a \\ begins a special character"),
        ("a: &x 1\nb: &x 2\n", ", line 2: a name given by & is given again"),
        ("a: 1\nb: \x1b", ", line 2: the character U+001B is no text; take it out"),
        ("a\0:\0 \0", ", line 1: the character U+0000 is no text; save it as UTF-8"),
    ],
    ids=lambda value: "".join(filter(str.isalnum, value))[:12],
)
def test_a_fault_is_told_where_it_begins_and_with_what_to_do(text: str, told: str) -> None:
    message = refused(text).removeprefix("here")
    assert message.startswith(told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; settings are expected"),
        (b"# nothing but this\n", "is empty; settings are expected"),
        ("a: 1".encode("utf-16"), "save it as UTF-8"),
        ("a: 1".encode("utf-16-le"), "save it as UTF-8"),
        ("a: Größe".encode("latin-1"), "save it as UTF-8"),
    ],
    ids=["empty", "comments", "utf-16", "utf-16 without a mark", "latin-1"],
)
def test_what_an_editor_saved_otherwise_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^--config x.*{told}"):
        read_yaml(path, "--config x")

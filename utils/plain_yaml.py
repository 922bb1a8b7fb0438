"""One reader for all YAML: plain data of bounded size and depth, or one line that says why not.

A YAML may come from a stranger. It makes no objects and reads no other file, and aliases are
counted as what they stand for, so that a few lines cannot become gigabytes. Every fault is an
`InputError` of one line. A key is the text that stands there: `on: 1` and `1: 2` have the keys
"on" and "1", since settings have names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from utils.errors import InputError
from utils.files import read_regular
from utils.yaml_faults import explained

LARGEST_FILE = 1 << 20  # bytes
MOST_NODES = 20_000  # values and keys, aliases counted as what they stand for
DEEPEST = 32  # mappings and lists in each other, and parts of a dotted key
LONGEST_NUMBER = 100  # characters
# Numbers that are no decimal ones in YAML 1.1, and do not look it: `010` is 8 and `1:30` is 90.
OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
LARGEST_INTEGER = 2**63  # exclusive, as of a seed or a tensor's element
TAG = "tag:yaml.org,2002:"
MERGE = TAG + "merge"
PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


@dataclass(frozen=True)
class Extent:
    """How much an anchor stands for: nodes, and levels of mappings and lists."""

    nodes: int
    levels: int


def problem(what: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    """Return the error for `what` at the place `mark`."""
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)


class PlainLoader(yaml.SafeLoader):
    """Plain data only; `1e-3` is a number (YAML 1.2), and a key given twice is an error."""

    # Timestamps stay text, as all else that is no number, switch or nothing.
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own form)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != TAG + "timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._level = 0
        self._deepest = 0
        self._known: dict[str, Extent] = {}

    # ------------------------------------------------------------------------- from text to nodes

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node, after a look at how large all has become."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            self._count_alias(event)
            return super().compose_node(parent, index)
        before, outer, self._deepest = self._nodes, self._deepest, self._level
        self._grow(1, self._level + 1, event.start_mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if event.anchor is not None:
            self._known[event.anchor] = Extent(self._nodes - before, self._deepest - self._level)
        self._deepest = max(self._deepest, outer)
        return node

    def _count_alias(self, event: Any) -> None:
        if event.anchor not in self._known:
            inside = event.anchor in self.anchors
            what = "stands inside of what it repeats" if inside else "repeats what is not there"
            raise problem(f"*{event.anchor} {what}", event.start_mark)
        extent = self._known[event.anchor]
        self._grow(extent.nodes, self._level + extent.levels, event.start_mark)

    def _grow(self, nodes: int, level: int, mark: yaml.Mark) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, level)
        if self._nodes > MOST_NODES:
            raise problem(f"more than {MOST_NODES:,} values, repeated ones counted", mark)
        if level > DEEPEST + 1:  # a scalar in the innermost
            raise problem(f"more than {DEEPEST} levels in each other", mark)

    # ------------------------------------------------------------------------- from nodes to data

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; its keys are texts, each given once."""
        if not isinstance(node, yaml.MappingNode):
            raise problem("a mapping of keys is expected", node.start_mark)
        data: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in data:
                raise problem(f"the key {key!r} is given twice", key_node.start_mark)
            data[key] = self.construct_object(value_node, deep=deep)
        return data

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise problem("a key is a word, not a list or mapping", node.start_mark)
        if node.tag == MERGE:
            raise problem(
                "merging by << is not read; repeat the keys, or use extends", node.start_mark
            )
        return text_of(node)

    def construct_scalar(self, node: yaml.Node) -> Any:
        """Return the text of a scalar."""
        if not isinstance(node, yaml.ScalarNode):
            raise problem("a single value is expected", node.start_mark)
        return text_of(node)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return an int or a float."""
        kind = "integer" if node.tag == TAG + "int" else "number"
        text = self.construct_scalar(node)
        if len(text) > LONGEST_NUMBER:
            raise problem(f"a number of {len(text):,} digits", node.start_mark)
        if OTHER_BASE.fullmatch(text):
            what = f"{text!r} would not be read to the base of 10"
            remedy = "write a number without leading zeros and colons, or a text in quotes"
            raise problem(f"{what}; {remedy}", node.start_mark)
        if kind == "number":
            return super().construct_yaml_float(node)
        value = super().construct_yaml_int(node)
        if not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            raise problem("an integer below 2^63 is expected", node.start_mark)
        return value

    def construct_unknown(self, node: yaml.Node) -> Any:
        """Refuse what is no plain data."""
        raise problem(f"the tag {node.tag!r} is no plain data", node.start_mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the data of a node, whatever a wrong tag makes PyYAML stumble over."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
            kind = node.tag.removeprefix(TAG)
            raise problem(f"{str(node.value)[:60]!r} is no {kind}", node.start_mark) from error


def text_of(node: yaml.ScalarNode) -> str:
    """Return a scalar's text, which must be Unicode: an escape may make half of a character."""
    text: str = node.value
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise problem("text with half of a character", node.start_mark) from error
    return text


PlainLoader.yaml_constructors = {
    TAG + kind: SafeConstructor.yaml_constructors[TAG + kind] for kind in PLAIN
}
PlainLoader.add_constructor(TAG + "int", PlainLoader.construct_number)
PlainLoader.add_constructor(TAG + "float", PlainLoader.construct_number)
PlainLoader.add_constructor(None, PlainLoader.construct_unknown)
PlainLoader.add_implicit_resolver(
    TAG + "float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Return the data in `text`.

    Raises:
        InputError: it is no YAML, or no plain data, or too much of it; the line is named.
    """
    try:
        return PlainLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{where}{explained(error)}") from error
    except yaml.reader.ReaderError as error:
        code = ord(error.character) if isinstance(error.character, str) else error.character
        line = text.count("\n", 0, error.position) + 1
        remedy = "save it as UTF-8" if code == 0 else "take it out"
        raise InputError(
            f"{where}, line {line}: the character U+{code:04X} is no text; {remedy}"
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: no valid YAML ({error})".replace("\n", " ")) from error


def read_yaml(path: Path, where: str) -> Any:
    """Return the data in the file at `path`; `where` names it in messages.

    Raises:
        InputError: it is no regular file, too large, not in UTF-8, empty, or no plain YAML.
    """
    try:
        text = read_regular(path, LARGEST_FILE).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: is not written in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    data = parse_yaml(text, where)
    if data is None:
        raise InputError(f"{where}: is empty; settings are expected, each as `key: value`")
    return data

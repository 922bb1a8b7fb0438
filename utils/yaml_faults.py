"""What PyYAML finds wrong, in a person's words: where it begins, what it is, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class Fault:
    """A kind of fault, in a person's words.

    Attributes:
        pattern: of what PyYAML was doing, and of what it met.
        told: what is wrong, and what to do.
        at_beginning: whether it is told of the line where what PyYAML was doing began.
    """

    pattern: str
    told: str
    at_beginning: bool = False


FAULTS = (
    Fault("quoted scalar: found unexpected", "a quote is opened here and not closed", True),
    Fault("flow sequence: ", "a list begins here by [, and lacks a comma or its ]", True),
    Fault("flow mapping: ", "a mapping begins here by {, and lacks a comma or its }", True),
    Fault("simple key: ", "a key without a colon; write `key: value`", True),
    Fault("duplicate anchor", "a name given by & is given again; take another one"),
    Fault("another document", "--- begins a second document; leave one of them"),
    Fault(r"'\\t' that cannot start", "a tab, which indents nothing; use blanks"),
    Fault(
        "that cannot start any token",
        "no value begins with this sign; put the value in quotes",
    ),
    Fault(
        "mapping values are not allowed",
        "a colon where none is expected; put a value that holds `: ` in quotes, and let keys of "
        "one mapping begin in one column",
    ),
    Fault(
        "unknown escape character|expected escape sequence",
        r"in double quotes a \ begins a special character; take single quotes",
    ),
    Fault(
        "block (mapping|collection): |'<document start>'",
        "does not belong to what stands above; let it begin in the same column, and do not mix "
        "`- item` with `key: value`",
    ),
)


def explained(error: yaml.MarkedYAMLError) -> str:
    """Return where a fault is, what it is and what to do, as far as its kind is known."""
    what = f"{error.context or ''}: {error.problem or 'no valid YAML'}"
    fault = next((fault for fault in FAULTS if re.search(fault.pattern, what)), None)
    mark = error.problem_mark
    if fault is not None and fault.at_beginning and error.context_mark is not None:
        mark = error.context_mark
    line = "" if mark is None else f", line {mark.line + 1}"
    return f"{line}: {error.problem or 'no valid YAML' if fault is None else fault.told}"

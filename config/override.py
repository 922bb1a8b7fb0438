"""A key of the command line: `key.subkey=value`, the value in YAML, or the very text of a path.

In a shell nobody writes comments: what YAML would make of `K #1` is another value than the one that
was typed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import yaml

from config.merge import place_of
from utils.errors import InputError
from utils.paths import refuse_control_characters
from utils.plain_yaml import DEEPEST, parse_yaml

COMMAND_LINE = "command line"
NOTHING = ("", "~", "null", "Null", "NULL")  # YAML's spellings
EXPLICIT = ("'", '"', "!!")  # how a text begins that is written in YAML


def read_override(argument: str) -> dict[str, Any]:
    """Return `a.b=value` as nested mappings.

    Raises:
        InputError: it is no such text, or its value no plain YAML.
    """
    if any(unicodedata.category(character) == "Cs" for character in argument):
        raise InputError(f"{argument}: an override is text in UTF-8")
    key, equals, value = argument.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise InputError(f"{argument}: an override reads key.subkey=value")
    if len(parts) > DEEPEST:
        raise InputError(f"{argument}: a key has {DEEPEST} parts at most")
    data = read_value(value, f"{COMMAND_LINE}: {key}", takes_text(parts))
    for part in reversed(parts):
        data = {part: data}
    return data


def takes_text(parts: Sequence[str]) -> bool:
    """Return whether the schema expects a text at a key, such as a path or a name."""
    place = place_of(parts[:-1])
    return place is not None and place.section.takes_text(parts[-1])


def read_value(value: str, where: str, is_text: bool) -> Any:
    """Return what was typed.

    Args:
        value: behind the `=`.
        where: the key, for messages.
        is_text: whether a text is expected: then it is taken as it stands, unless it is in quotes.

    Raises:
        InputError: it is no plain YAML, or YAML would read another value than the one that is seen.
    """
    if is_text and value not in NOTHING and not value.startswith(EXPLICIT):
        refuse_control_characters(value, where)
        return value
    data = parse_yaml(value, where)
    refuse_comment(value, where)
    return data


def refuse_comment(value: str, where: str) -> None:
    """Raise `InputError` for a comment in valid YAML."""
    scalars = [token for token in yaml.scan(value) if isinstance(token, yaml.ScalarToken)]
    inside = [range(scalar.start_mark.index, scalar.end_mark.index) for scalar in scalars]
    for sign in re.finditer(r"(?:^|(?<=\s))#", value):
        if not any(sign.start() in span for span in inside):
            raise InputError(
                f"{where}: {value[sign.start() :]!r} would be read as a comment; leave it out, or "
                f"write a text in quotes, inside of those that the shell takes away"
            )

"""Reading what people have said of samples in another tool, from its JSON export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from data.formats import FORMATS
from data.formats.format import Said
from utils.errors import InputError
from utils.texts import Text

READ = "FiftyOne or Label Studio"


def said_in_export(text: Text, classes: Sequence[str]) -> Iterator[Said]:
    """Yield what a person has said in a tool that exports JSON.

    Args:
        text: of the file.
        classes: names; where one of them is that of a verdict, a label is no verdict.

    Raises:
        InputError: no JSON, or of no known tool.
    """
    content = parse(text)
    found = (FORMATS.get(name)().read(content, classes) for name in FORMATS)
    said = next((each for each in found if each is not None), None)
    if said is None:
        raise InputError(
            f"{text.where} is no export of {READ}; a CSV with file and verdict is read"
        )
    yield from said


def parse(text: Text) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it is none, or names something twice, of which one would be lost.
    """
    try:
        return json.loads("\n".join(text.lines), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)[:100]
        raise InputError(f"{text.where} is no JSON ({reason})") from error


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping.

    Raises:
        ValueError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice[:60]!r} is there twice")
    return found

"""Examples of the documentation that tests run as they stand on the page."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from utils.files import PROJECT
from utils.registry import Registry

EXTENDING = PROJECT / "docs" / "extending.md"


def add_part_of_the_page(
    monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], file: str, longest: int
) -> None:
    """Add a part of docs/extending.md as the file and the line that the page tells one to write.

    Args:
        monkeypatch: takes it away at the end of the test.
        registry: the table that the line is added to.
        file: of the example, as in its first line; the part's name is that of the file.
        longest: lines that it may have.
    """
    page = EXTENDING.read_text(encoding="utf-8")
    name = file.rpartition("/")[2].removesuffix(".py")
    code = re.search(rf"```python\n(# {re.escape(file)}\n.*?)```", page, re.DOTALL)
    line = re.search(rf'"{name}": "(.*?):(.*?)",', page)
    assert code and line
    assert len(code[1].splitlines()) <= longest
    module = ModuleType(line[1])
    monkeypatch.setitem(sys.modules, line[1], module)
    exec(code[1], module.__dict__)  # noqa: S102 (the project's own page)
    monkeypatch.setattr(registry, "_entries", {**registry._entries})
    registry.register(name, getattr(module, line[2]))

"""Threads that wait for each other spin for a short while, unless somebody has said otherwise."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from utils.files import PROJECT
from utils.threads import SETTINGS, SPINS


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, str(SPINS)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_what_the_user_has_set_stays(given: dict[str, str], spins: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS} | given
    shown = "os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules"
    code = f"import utils.threads, os, sys; print({shown})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(spins), "False"], done.stderr


def test_it_is_set_before_anything_imports_pytorch() -> None:
    tree = ast.parse((PROJECT / "ASD.py").read_text(encoding="utf-8"))
    names = [
        node.names[0].name if isinstance(node, ast.Import) else str(node.module)
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    ours = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
    assert ours[0] == "utils.threads"

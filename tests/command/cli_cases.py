"""What the tests of the command line share."""

from __future__ import annotations

import pytest

import ASD
from tests.conftest import DIGITS

CPU = ("--config", str(DIGITS), "--gpu", "cpu")


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, what went to stdout, and to stderr."""
    code = ASD.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err

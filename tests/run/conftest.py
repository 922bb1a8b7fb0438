"""For all tests of runs: none leaves a program behind, which would take the time of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.run.processes import end_all


@pytest.fixture(autouse=True)
def no_run_outlives_its_test() -> Iterator[None]:
    yield
    end_all()

"""A processor's share of its own peaks is measured in its own seconds."""

from __future__ import annotations

import time

import pytest
import torch

from benchmark import processor
from benchmark.processor import measure, row, used_in_turns


def test_what_others_do_meanwhile_is_not_counted() -> None:
    used = used_in_turns({"waits": lambda: time.sleep(0.2), "works": lambda: sum(range(10**5))}, 2)
    assert used["waits"].best < 0.1
    assert used["works"].best > 0
    assert len(used["works"].seconds) == 2


def test_step_and_pass_of_a_network_are_compared_with_the_peaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, right = torch.rand(2, 64, 64)
    product = (lambda: left @ right, 2.0 * 64**3)
    monkeypatch.setattr(processor, "matrix_product", lambda *_: product)
    monkeypatch.setattr(processor, "BATCH", 4)
    monkeypatch.setattr(processor, "IMAGES", 4)
    found = measure("fastnet", 4, repeats=1)
    assert [one["part"] for one in found] == ["step", "record pass"]
    for one in found:
        assert one["flops"] > 0
        assert one["bytes"] > 0
        assert one["of_the_roofline"] >= one["of_the_products"] > 0
        assert 0 <= one["bound_by_memory"] <= 1
        assert all(row(one).values())

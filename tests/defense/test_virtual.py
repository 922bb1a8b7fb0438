"""The virtual model: trained anew for each split, whatever it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from command.arguments import parse_arguments
from defense.virtual import VirtualModel
from run.setup import set_up
from tests.conftest import DIGITS, TINY
from utils.interrupt import Interrupt


def setting_of(storage: Path, *more: str) -> Any:
    given = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, f"storage_dir={storage}", *more]
    return ASD.prepare(set_up(parse_arguments(given), Interrupt())).defense.setting


@pytest.mark.parametrize("more", [(), ("semi.ema=0.9",), ("meta.train_iteration=3",)])
def test_what_it_was_before_leaves_no_trace(tmp_path: Path, more: tuple[str, ...]) -> None:
    setting = setting_of(tmp_path, *more)
    model = setting.learner.model_for("virtual")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    used = VirtualModel(setting)
    first = {name: value.clone() for name, value in used.trained(1).state_dict().items()}
    again, fresh = used.trained(2).state_dict(), VirtualModel(setting).trained(2).state_dict()
    assert all(torch.equal(again[name], fresh[name]) for name in fresh)
    assert any(not torch.equal(first[name], fresh[name]) for name in fresh)  # another epoch
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())

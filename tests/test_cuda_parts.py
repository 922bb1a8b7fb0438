"""Each attack, method, witness and network once on a real GPU: nothing stays on another device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ASD
from data.attack import ATTACKS
from model import NETWORKS
from repair import REPAIRS
from tests.conftest import DIGITS, TINY
from tests.defense.staged import METHODS
from tests.run.test_repairing import SHORT
from witness import WITNESSES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

EAGER = "speed.compile=false"  # a translation takes longer than these runs
NARROW = {"fastnet": {"width": 16}}
# Attacks that train something: as small as they go.
TRAINED: dict[str, dict[str, Any]] = {
    "clb": {"network": NARROW, "epochs": 1, "iterations": 2, "class_fraction": 0.5},
    "flip": {"network": NARROW, "epochs": 2, "used_epochs": 1, "states": 1, "label_epochs": 1},
    "gcb": {"network": NARROW, "epochs": 1},
    "iab": {"network": NARROW, "epochs": 1, "mask_epochs": 1, "batch_size": 64, "width": 8},
    "sig": {"class_fraction": 0.5},
}
HEARD = [name for name in WITNESSES if name != "probabilities"]  # that needs a file
NAMED = {"torchvision": {"name": "mobilenet_v3_small"}, "timm": {"name": "efficientnet_lite0"}}


def run(storage: Path, *more: str) -> dict[str, Any]:
    """Make a run of seconds on the first GPU; return its result."""
    given = ["--config", str(DIGITS), "--gpu", "0", "--name", "run", *TINY, EAGER]
    assert ASD.main([*given, f"storage_dir={storage}", *more]) == 0
    result: dict[str, Any] = json.loads((storage / "run" / "result.json").read_text())
    assert result["device"] == torch.cuda.get_device_name(0)
    return result


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack(name: str, tmp_path: Path) -> None:
    settings = json.dumps(TRAINED.get(name, {}))
    chosen = f"backdoor={{poison_ratio: 0.2, target_label: 3, {name}: {settings}}}"
    result = run(tmp_path, "defense=none", "num_epochs=1", chosen)
    assert result["attack"] == name


@pytest.mark.parametrize("method", list(METHODS))
def test_method_with_stages(method: str, tmp_path: Path) -> None:
    assert run(tmp_path, *METHODS[method])["defense"] == method


@pytest.mark.parametrize("method", list(REPAIRS))
def test_repair(method: str, tmp_path: Path) -> None:
    plain = ["--config", str(DIGITS), "--gpu", "0", "--name", "run_none", *TINY, EAGER, *SHORT]
    assert ASD.main([*plain, "defense=none", "num_epochs=1", f"storage_dir={tmp_path}"]) == 0
    result = run(
        tmp_path,
        *("defense=none", "num_epochs=1", *SHORT),
        *(f"repair.method={method}", "repair.of=run_none"),
    )
    assert result["acc"] >= 0


def test_all_witnesses_are_heard(tmp_path: Path) -> None:
    """With the keys of the presets: averaged weights, alignment, a share that the data give."""
    keys = (
        f"witness.heard=[{', '.join(HEARD)}]",
        "witness.reference.epochs=2",
        "witness.reference.steps=20",
        "network={fastnet: {width: 16}}",
        "semi.ema=0.9",
        "semi.loader.balance=pools",
        "semi.mixmatch.alignment=true",
        "global.epsilon=auto",
        "global.growth=0.1",
        "global.class_floor=0.2",
        "global.keep_seeds=true",
    )
    run(tmp_path, *keys, "report=true")
    header = (tmp_path / "run" / "report" / "suspects.csv").read_text().splitlines()[0]
    assert all(name in header for name in HEARD)


def test_a_start_without_verified_samples(tmp_path: Path) -> None:
    heard = "witness.heard=[unverified_group]"
    run(tmp_path, heard, "global.seed_choice=witnesses", "witness.reference.steps=20")


@pytest.mark.parametrize("name", list(NETWORKS))
def test_network(name: str, tmp_path: Path) -> None:
    if name in NAMED:
        pytest.importorskip(name)
    chosen = json.dumps({name: NAMED.get(name, {})})
    run(tmp_path, f"network={chosen}", "num_epochs=3", "global.epoch_third=3",
        "global.epoch_first=1", "global.epoch_second=2")  # fmt: skip

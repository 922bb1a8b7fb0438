"""Parity with the published code: the numbers in `golden/`, by the functions of training.

`ASD_GOLDEN_DIR` names another folder of the same format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from defense.split import class_agnostic, class_aware, meta_split
from loss import CRITERIA
from loss.mixmatch import labelled_loss, unlabelled_loss, unlabelled_weight
from loss.sce import reverse_cross_entropy
from model import NETWORKS, Network
from training.mixmatch import Batch, Mix, MixMatch, interleave
from utils.engine import Engine

FOLDER = Path(os.environ.get("ASD_GOLDEN_DIR", Path(__file__).parent / "golden"))
CPU = Engine(torch.device("cpu"))


def golden(name: str) -> dict[str, Any]:
    with np.load(FOLDER / name, allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def determined(shape: torch.Size, k: int, scale: float) -> Tensor:
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    values = scale * np.cos(0.7 * i + 1.3 * k + 0.001 * i * (k % 7 + 1))
    return torch.from_numpy(values.reshape(tuple(shape)))


def weight_by_rule(name: str, shape: torch.Size, k: int) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if name.endswith("running_var"):
        return 1 + 0.5 * determined(shape, k, 1.0).abs()
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + 0.1 * determined(shape, k, 1.0)
    if len(shape) == 4:
        return determined(shape, k, float(np.sqrt(2 / np.prod(shape[1:]))))
    if len(shape) == 2:
        return determined(shape, k, float(1 / np.sqrt(shape[1])))
    return determined(shape, k, 0.1)


def network_by_rule(seed: int) -> Network:
    resnet = NETWORKS.get("resnet18_cifar")
    network = resnet.build(resnet.Settings(num_classes=10), 10).double()
    entries = enumerate(network.state_dict().items())
    network.load_state_dict(
        {name: weight_by_rule(name, value.shape, k + seed) for k, (name, value) in entries}
    )
    return network


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_state_dict_has_the_published_keys_and_shapes() -> None:
    expected = json.loads((FOLDER / "state_dict.json").read_text())
    ours = {name: list(value.shape) for name, value in network_by_rule(0).state_dict().items()}
    assert list(ours.items()) == list(expected.items())


def test_resnet18() -> None:
    expected = golden("resnet18_cifar.npz")
    network = network_by_rule(int(expected["seed"])).eval()
    with torch.no_grad():
        features = network.backbone(expected["input"])
        torch.testing.assert_close(features, expected["feature_eval"], rtol=1e-8, atol=1e-12)
        logits = network(expected["input"])
        torch.testing.assert_close(logits, expected["logits_eval"], rtol=1e-8, atol=1e-12)
        network.train()
        logits = network(expected["input"])
    torch.testing.assert_close(logits, expected["logits_train"], rtol=1e-8, atol=1e-12)
    mean = network.state_dict()["backbone.bn1.running_mean"]
    wanted = expected["bn1_running_mean_after_train"]
    torch.testing.assert_close(mean, wanted, rtol=1e-8, atol=1e-12)


def test_symmetric_cross_entropy() -> None:
    expected = golden("sce.npz")
    loss_class = CRITERIA.get("sce")
    criterion = loss_class(loss_class.Settings(alpha=0.1, beta=1.0))
    logits, target = expected["logits"], expected["target"]
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(reverse_cross_entropy(logits, target), expected["rce"], **close)
    torch.testing.assert_close(criterion.per_sample(logits, target), expected["sce"], **close)
    torch.testing.assert_close(criterion(logits, target), expected["sce_mean"], **close)


def test_mixmatch_loss() -> None:
    expected = golden("mixmatch_loss.npz")
    labelled = labelled_loss(expected["x_logits"], expected["x_target"])
    unlabelled = unlabelled_loss(expected["u_logits"], expected["u_target"])
    length, top = int(expected["rampup_length"]), float(expected["lambda_u"])
    for epoch, row in zip(expected["epoch"].tolist(), expected["lx_lu_lambda"], strict=True):
        weight = unlabelled_weight(top, length, epoch)
        ours = torch.stack([labelled, unlabelled, torch.tensor(weight)])
        torch.testing.assert_close(ours, row, rtol=1e-10, atol=1e-10)


def test_interleave() -> None:
    expected = golden("interleave.npz")
    ours = torch.stack(interleave(list(expected["inputs"])))
    assert torch.equal(ours, expected["outputs"])


def test_splits() -> None:
    expected = golden("splits.npz")
    label, loss, virtual = expected["label"], expected["loss"], expected["loss_virtual"]
    compared = 0
    for name, pool in expected.items():
        kind, _, parameter = name.rpartition("_")
        if kind == "class_aware":
            ours = class_aware(loss, label, expected["seed_indices"], int(parameter))
        elif kind == "class_agnostic":
            ours = class_agnostic(loss, float(parameter))
        elif kind == "meta":
            ours = meta_split(loss, virtual, float(parameter))
        else:
            continue
        assert torch.equal(ours, pool), name
        compared += 1
    assert compared >= 3


def test_mixmatch_steps() -> None:
    expected = golden("mixmatch_steps.npz")
    network = network_by_rule(int(expected["seed"])).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=float(expected["lr"]))
    batch = Batch(expected["x"], expected["x_target"], (expected["u1"], expected["u2"]))
    steps, iterations = int(expected["steps"]), int(expected["train_iteration"])
    mixmatch = MixMatch(network, optimizer, CPU, float(expected["temperature"]))
    losses, weights = [], []
    for step in range(steps):
        mix = Mix(expected["beta_draws"][step], expected["permutations"][step])
        epoch = int(expected["epoch"]) + step / iterations
        weight = unlabelled_weight(
            float(expected["lambda_u"]), int(expected["rampup_length"]), epoch
        )
        weights.append(weight)
        losses.append(mixmatch.step(batch, mix, weight))
    means = torch.stack(losses).mean(dim=0)
    wanted = torch.stack([expected[f"mean_{name}"] for name in ("loss", "xloss", "uloss")])
    torch.testing.assert_close(means, wanted, rtol=1e-6, atol=1e-9)
    assert float(expected["mean_lambda_u"]) == pytest.approx(np.mean(weights), rel=1e-6)
    after = network.state_dict()
    kept = {name: value for name, value in expected.items() if name.startswith("after:")}
    assert len(kept) >= 6
    for name, value in kept.items():
        ours = after[name.removeprefix("after:")]
        torch.testing.assert_close(ours, value, rtol=1e-6, atol=1e-9, msg=name)
    tracked = after["backbone.bn1.num_batches_tracked"]
    assert int(tracked) == int(expected["num_batches_tracked"]) == 5 * steps

"""Fine-pruning and NAD against plain restatements: what is pruned, losses, one step's gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from data.dataset import Split
from data.transform import Chain, Normalize
from model import NETWORKS, Network, build_network
from model.place import place_network
from model.taps import find_taps
from repair import REPAIRS, Repair, RepairSetting
from repair.fine_pruning import how_many, prune_counts, prune_order
from tests.conftest import learnable_data
from utils.engine import Engine
from utils.errors import InputError
from utils.streams import Streams

CPU = torch.device("cpu")


def trained_network(name: str = "resnet18_cifar") -> Network:
    network = NETWORKS.get(name)
    built = build_network(network, network.Settings.model_validate({"width": 4}), 4, 1)
    return place_network(built, Engine(CPU))


def setting(count: int = 64, seed: int = 5, size: int = 8) -> RepairSetting:
    chain = Chain([], Normalize(mean=[0.3] * 3, std=[0.3] * 3), size, size)
    clean: Split = learnable_data(count, size).train
    return RepairSetting(clean, chain, chain, Streams(seed), Engine(CPU))


def build(name: str, given: dict[str, Any], count: int = 64, size: int = 8) -> Repair:
    repair = REPAIRS.get(name)
    return repair(repair.Settings.model_validate(given), setting(count, size=size))


SHORT = {
    "fine_pruning": {"num_epochs": 2, "batch_size": 16, "step": 0.1},
    "nad": {
        "teacher_epochs": 1,
        "num_epochs": 2,
        "batch_size": 16,
        "learning_rates": [0.01],
        "milestones": [],
    },
}


@pytest.mark.parametrize("name", list(REPAIRS))
def test_a_repair_learns_leaves_the_model_alone_and_repeats_itself(name: str) -> None:
    network = trained_network()
    before = copy.deepcopy(network.state_dict())
    first, second = (build(name, SHORT[name]).repair(network) for _ in range(2))
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
        assert torch.equal(first.network.state_dict()[key], second.network.state_dict()[key]), key
    assert first.rows == second.rows
    assert len(first.rows) == {"fine_pruning": 2, "nad": 3}[name]
    assert not torch.equal(first.network.linear.weight, network.linear.weight)


def test_the_least_used_channels_come_first() -> None:
    features = torch.tensor([[0.0, 3.0, 1.0, -2.0], [0.0, 1.0, 0.5, -2.0]])
    used = [sum(abs(row[c]) for row in features.tolist()) / 2 for c in range(4)]
    assert prune_order(features).tolist() == sorted(range(4), key=lambda c: used[c]) == [0, 2, 1, 3]


def test_the_order_is_that_of_the_last_maps() -> None:
    """A channel's mean over positions is the mean of its map, hooked before pooling."""
    repair = build("fine_pruning", {})
    network = trained_network().eval()
    maps: list[torch.Tensor] = []
    hook = network.backbone.layer4.register_forward_hook(lambda *given: maps.append(given[2]))
    features = repair.features(network, torch.arange(64))  # type: ignore[attr-defined]
    hook.remove()
    activation = torch.cat(maps).mean(dim=(0, 2, 3))
    assert torch.allclose(activation, features.mean(dim=0), atol=1e-5)
    assert prune_order(features).tolist() == activation.argsort(stable=True).tolist()


def plain_count(
    network: Network, views: torch.Tensor, labels: torch.Tensor, order: list[int], drop: float
) -> int:
    """Prune one at a time in a copy of the whole network, until it is wrong too often."""

    def right(pruned: list[int]) -> float:
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.linear.weight[:, pruned] = 0
            return float((other(views).argmax(dim=1) == labels).float().mean())

    whole, good = right([]), 0
    for count in range(1, len(order)):
        if right(order[:count]) < (1 - drop) * whole:
            break
        good = count
    return good


def test_pruning_ends_before_accuracy_falls() -> None:
    repair = build("fine_pruning", {"num_epochs": 8, "batch_size": 16, "learning_rate": 0.05})
    network = trained_network()
    repair.fine_tune(network, torch.empty(0, dtype=torch.int64))  # type: ignore[attr-defined]
    network.eval()
    features = repair.features(network, torch.arange(64)).detach()  # type: ignore[attr-defined]
    labels, order = repair.setting.clean.labels, prune_order(features)
    (views,) = repair.setting.plain_views(torch.arange(64), 64)
    counts = []
    for drop in (0.02, 0.1, 0.3):
        counts.append(how_many(features, labels, network.linear, order, 1 / 32, drop))
        assert counts[-1] == plain_count(network, views, labels, order.tolist(), drop)
    assert counts == sorted(counts)
    assert len(set(counts)) > 1
    # Nothing may fall: nothing is pruned that matters; everything may: all but the last step.
    assert how_many(features, labels, network.linear, order, 1 / 32, 1.0) == 31
    assert list(prune_counts(10, 0.3)) == [3, 6, 9]


def test_channels_are_ranked_on_one_part_and_judged_on_the_other() -> None:
    """BackdoorBench ranks and stops on the same images; here they are different ones."""
    given = {"num_epochs": 8, "batch_size": 16, "learning_rate": 0.05, "step": 1 / 32}
    given["largest_drop"] = 0.4  # with less, a processor whose last digits differ may prune none
    repair = build("fine_pruning", given)
    network = trained_network()
    repair.fine_tune(network, torch.empty(0, dtype=torch.int64))  # type: ignore[attr-defined]
    found = repair.choose(network)  # type: ignore[attr-defined]
    shuffled = torch.randperm(64, generator=repair.setting.streams.torch("repair-held-out"))
    judged, ranked = shuffled[:13].tolist(), shuffled[13:].tolist()  # a fifth, and the rest
    (views,) = repair.setting.plain_views(torch.arange(64), 64)
    maps: list[torch.Tensor] = []
    hook = network.eval().backbone.layer4.register_forward_hook(lambda *of: maps.append(of[2]))
    with torch.no_grad():
        network(views)
    hook.remove()
    used = maps[0][ranked].mean(dim=(0, 2, 3)).tolist()
    order = sorted(range(32), key=lambda channel: used[channel])
    labels = repair.setting.clean.labels[judged]
    count = plain_count(network, views[judged], labels, order, 0.4)
    assert found.tolist() == order[:count]
    assert 0 < count < 31


def test_a_network_that_takes_the_highest_position_is_ranked_by_it() -> None:
    repair = build("fine_pruning", {"largest_drop": 0.9, "step": 1 / 16}, size=16)
    network = trained_network("fastnet")
    found = repair.choose(network)  # type: ignore[attr-defined]
    shuffled = torch.randperm(64, generator=repair.setting.streams.torch("repair-held-out"))
    (views,) = repair.setting.plain_views(shuffled[13:], 64)
    maps: list[torch.Tensor] = []
    hook = network.eval().backbone.group3.register_forward_hook(lambda *of: maps.append(of[2]))
    with torch.no_grad():
        network(views)
    hook.remove()
    used = maps[0].amax(dim=(2, 3)).abs().mean(dim=0).tolist()
    order = sorted(range(len(used)), key=lambda channel: used[channel])
    assert len(found) > 0
    assert found.tolist() == order[: len(found)]


def test_what_is_pruned_stays_pruned() -> None:
    repair = build("fine_pruning", {**SHORT["fine_pruning"], "largest_drop": 0.99})
    done = repair.repair(trained_network())
    pruned = int((done.network.linear.weight == 0).all(dim=0).sum())
    assert pruned == done.summary["pruned_channels"] > 0
    assert done.summary["channels"] == 32


def test_one_step_of_fine_tuning_is_plain_sgd() -> None:
    repair = build(
        "fine_pruning", {"largest_drop": 0, "num_epochs": 1, "batch_size": 64, "weight_decay": 0.1}
    )
    network, pruned = trained_network(), torch.tensor([3, 5])
    other = copy.deepcopy(network).train()
    repair.fine_tune(network, pruned)  # type: ignore[attr-defined]
    ((views, labels),) = repair.setting.batches(64, "repair-order", "repair-augment", 0)
    loss = functional.cross_entropy(other(views), labels)
    slopes = torch.autograd.grad(loss, list(other.parameters()))
    for (name, ours), theirs, slope in zip(
        network.named_parameters(), other.parameters(), slopes, strict=True
    ):
        torch.testing.assert_close(ours.grad, slope, rtol=1e-5, atol=1e-5)
        expected = theirs - 0.01 * (slope + 0.1 * theirs)
        if name == "linear.weight":
            expected[:, pruned] = 0
        assert torch.allclose(ours, expected, atol=1e-5), name


def test_too_few_clean_samples_are_refused() -> None:
    with pytest.raises(InputError, match="give more clean samples"):
        build("fine_pruning", {}, count=2).repair(trained_network())


def plain_map(features: torch.Tensor) -> torch.Tensor:
    energy = sum(features[:, c] ** 2 for c in range(features.shape[1]))
    assert isinstance(energy, torch.Tensor)
    rows = energy.reshape(len(features), -1)
    return rows / (torch.sqrt((rows**2).sum(dim=1, keepdim=True)) + 1e-6)


def test_the_students_loss_and_gradient_are_plain_formulas() -> None:
    repair = build("nad", {"betas": [5.0, 7.0]})
    network, teacher = trained_network(), trained_network()
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(1.1).add_(0.01)
    taps = find_taps(network, 8, 8, 2)
    assert [tap.name for tap in taps] == ["backbone.layer2", "backbone.layer3"]
    teacher.eval()
    network.train()
    ((views, labels),) = repair.setting.batches(64, "repair-order", "repair-augment", 0)
    loss = repair.loss(network, teacher, taps, views, labels)  # type: ignore[attr-defined]
    slopes = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)

    def walk(net: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
        body, maps = net.backbone, []
        # As the network's own hook has it: channels_last corrupts memory in so narrow layers.
        x = torch.relu(body.bn1(body.conv1(views.contiguous())))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = stage(x)
            maps.append(x)
        return maps[1:3], net.linear(x.mean(dim=(2, 3)))

    plain = copy.deepcopy(network).train()
    own, logits = walk(plain)
    with torch.no_grad():
        theirs, _ = walk(teacher)
    expected = functional.cross_entropy(logits, labels)
    for beta, a, b in zip((5.0, 7.0), own, theirs, strict=True):
        expected = expected + beta * ((plain_map(a) - plain_map(b)) ** 2).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-5)
    assert float(loss.detach()) > float(functional.cross_entropy(logits, labels).detach()) + 1e-4
    for ours, other in zip(
        slopes, torch.autograd.grad(expected, list(plain.parameters())), strict=True
    ):
        assert torch.allclose(ours, other, atol=1e-5)


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_one_step_of_nad_is_plain_sgd(stage: str) -> None:
    given = {"teacher_epochs": 1, "num_epochs": 1, "batch_size": 64, "learning_rates": [0.1]}
    repair: Any = build("nad", {**given, "milestones": [], "weight_decay": 0.1, "betas": [3.0]})
    network, teacher = trained_network(), None
    taps = find_taps(network, 8, 8, 1)
    if stage == "student":
        teacher = trained_network()
        with torch.no_grad():
            for weight in teacher.parameters():
                weight.mul_(1.1)
        teacher.eval()
    other = copy.deepcopy(network).train()
    (row,) = repair.train(stage, network, teacher, taps)
    prefix = "teacher" if stage == "teacher" else "repair"
    ((views, labels),) = repair.setting.batches(64, f"{prefix}-order", f"{prefix}-augment", 0)
    loss = repair.loss(other, teacher, taps, views, labels)  # against formulas above
    if teacher is None:
        again = copy.deepcopy(trained_network()).train()
        plain = functional.cross_entropy(again(views), labels)
        assert float(loss.detach()) == pytest.approx(float(plain.detach()), abs=1e-5)
    assert row == {
        "epoch": 0,
        "stage": stage,
        "loss": pytest.approx(float(loss.detach()), abs=1e-5),
    }
    slopes = torch.autograd.grad(loss, list(other.parameters()))
    for ours, theirs, slope in zip(network.parameters(), other.parameters(), slopes, strict=True):
        expected = theirs - 0.1 * 1.9 * (slope + 0.1 * theirs)  # Nesterov's first step
        assert torch.allclose(ours, expected, atol=1e-5)


def test_nad_moves_the_students_statistics_once_a_step_and_never_the_teachers() -> None:
    repair = build("nad", {**SHORT["nad"], "teacher_epochs": 0, "num_epochs": 1})
    done = repair.repair(trained_network())
    assert int(done.network.backbone.bn1.num_batches_tracked) == 64 // 16  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("nad", {"learning_rates": [0.1], "milestones": [1]}),
        ("nad", {"learning_rates": [0.1] * 3, "milestones": [2, 1]}),
        ("fine_pruning", {"step": 0.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"learning_rates|milestones|step"):
        REPAIRS.get(name).Settings.model_validate(given)


def test_the_learning_rate_of_nad_falls_at_its_milestones() -> None:
    settings: Any = REPAIRS.get("nad").Settings()
    assert [settings.learning_rate(e) for e in (0, 1, 2, 19, 20)] == [0.1, 0.1, 0.01, 0.01, 0.0001]

"""DBD against plain restatements: a step of each stage, the halves, and the ramp."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from config.load import load_config
from defense.dbd import contrastive_chain
from loss.mixmatch import unlabelled_weight
from model.projection import build_projection
from tests.conftest import DIGITS
from tests.defense.staged import prepared, reviewed, twin
from training.draws import EpochDraws

ALL = torch.ones(300, dtype=torch.bool)


def order_of(dbd: Any, epoch: int) -> torch.Tensor:
    return torch.randperm(300, generator=dbd.setting.ground.streams.torch("order", epoch))


def plain_contrast(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The loss of each first view in turn, temperature 0.5."""
    terms = []
    for i in range(len(first)):
        others = [first[j] for j in range(len(first)) if j != i] + list(second)
        scores = torch.stack([first[i] @ other for other in others]) / 0.5
        terms.append(torch.logsumexp(scores, dim=0) - first[i] @ second[i] / 0.5)
    return torch.stack(terms).mean()


def project(head: Any, features: torch.Tensor) -> torch.Tensor:
    """Linear, BatchNorm, ReLU, linear, length 1, in plain formulas."""
    first, norm, _, last = head.layers
    hidden = features @ first.weight.T + first.bias
    mean, variance = hidden.mean(dim=0), hidden.var(dim=0, unbiased=False)
    hidden = (hidden - mean) / torch.sqrt(variance + 1e-5)
    hidden = torch.relu(hidden * norm.weight + norm.bias)
    out = hidden @ last.weight.T + last.bias
    return out / out.norm(dim=1, keepdim=True)


def test_a_step_of_contrastive_learning(tmp_path: Path) -> None:
    dbd = prepared("dbd", tmp_path, "dbd.contrastive.batch_size=32")
    assert bool(dbd.split(0).clean.all())
    before = twin(dbd).train()
    head = build_projection(32, dbd.setting.ground.streams.state("projection"))
    given = next(iter(dbd.steps(0, ALL, 0)))
    assert given[1:].tolist() == [0, 0]
    assert dbd.losses_in(0) == ("loss",)
    ground, chosen = dbd.compared, order_of(dbd, 0)[:32]
    views = [
        ground.chain.view(
            ground.training.images, chosen, ground.chain.draw(300, ground.streams.torch(p, 0))[:32]
        )
        for p in ("contrastive-augment-1", "contrastive-augment-2")
    ]
    assert not torch.equal(*views)
    features = before.backbone(torch.cat(views).contiguous())
    loss = plain_contrast(*project(head, features).chunk(2))
    assert given[0].item() == pytest.approx(float(loss), rel=1e-5, abs=1e-5)
    olds = [*before.backbone.parameters(), *head.parameters()]
    news = [*dbd.setting.learner.network.backbone.parameters(), *dbd.head.parameters()]
    slopes = torch.autograd.grad(loss, olds, allow_unused=True)
    for old, new, slope in zip(olds, news, slopes, strict=True):
        if slope is not None:  # the last layer's bias
            torch.testing.assert_close(new.grad, slope, rtol=1e-5, atol=1e-5)
            expected = old - 0.4 * (slope + 1e-4 * old)
            torch.testing.assert_close(new.detach(), expected.detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(dbd.setting.learner.network.linear.weight, before.linear.weight)


def test_the_contrastive_rate_falls_as_a_cosine(tmp_path: Path) -> None:
    dbd = prepared("dbd", tmp_path, "dbd.contrastive.epochs=4")
    dbd.split(0)
    rates = [dbd.learning_rate(epoch) for epoch in range(4)]
    expected = [0.2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert rates == pytest.approx(expected)
    next(iter(dbd.steps(3, ALL, 0)))
    assert dbd.optimizer.param_groups[0]["lr"] == pytest.approx(expected[3])


def sce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """0.1 * CE + reverse CE in its closed form: -log(1e-4) * (1 - p_y)."""
    p = logits.softmax(dim=1)[torch.arange(len(labels)), labels]
    return -0.1 * p.log() - math.log(1e-4) * (1 - p)


OTHER = "split.criterion={cross_entropy: null}"  # ASD's, as the presets for a laptop have it


def test_warm_up_trains_the_linear_layer_alone(tmp_path: Path) -> None:
    dbd = prepared("dbd", tmp_path, OTHER)
    dbd.split(2)
    before = twin(dbd).train()
    given = next(iter(dbd.steps(2, ALL, 0)))
    ground, chosen = dbd.setting.ground, order_of(dbd, 2)[:64]
    draws = ground.chain.draw(300, ground.streams.torch("augment", 2))[:64]
    views = ground.chain.view(ground.training.images, chosen, draws).contiguous()
    loss = sce(before(views), ground.training.labels[chosen]).mean()
    assert given[0].item() == pytest.approx(float(loss), rel=1e-5, abs=1e-5)
    network = dbd.setting.learner.network
    for old, new in zip(before.backbone.parameters(), network.backbone.parameters(), strict=True):
        assert torch.equal(old, new)
    (slope,) = torch.autograd.grad(loss, [before.linear.weight])
    torch.testing.assert_close(network.linear.weight.grad, slope, rtol=1e-5, atol=1e-5)
    # Adam's first step: the rate, in the direction of the gradient's sign.
    step = network.linear.weight - before.linear.weight
    torch.testing.assert_close(
        step.detach(), -0.002 * slope / (slope.abs() + 1e-8), rtol=1e-3, atol=1e-5
    )
    # BatchNorm's statistics move, as in the published code; the restatement has moved them too.
    for old, new in zip(before.buffers(), network.buffers(), strict=True):
        torch.testing.assert_close(old, new, rtol=1e-5, atol=1e-6)
    assert not torch.equal(network.backbone.bn1.running_mean, torch.zeros(4))


def test_the_lower_half_keeps_its_labels(tmp_path: Path) -> None:
    dbd = prepared("dbd", tmp_path, OTHER)
    before = twin(dbd).eval()
    pools = dbd.split(4)
    ground = dbd.setting.ground
    draws = ground.chain.draw(300, ground.streams.torch("record-augment", 4))
    views = ground.chain.view(ground.training.images, torch.arange(300), draws).contiguous()
    with torch.no_grad():
        loss = sce(before(views), ground.training.labels)
    assert torch.equal(pools.clean, loss <= loss.sort().values[149])
    torch.testing.assert_close(pools.loss, loss, rtol=1e-5, atol=1e-5)
    low, high = int(loss.argmin()), int(loss.argmax())
    reviewed(dbd, clean=[high], poisoned=[low])
    clean = dbd.split(4).clean
    assert (bool(clean[high]), bool(clean[low])) == (True, False)


def test_mixmatch_trains_everything_again(tmp_path: Path) -> None:
    dbd = prepared("dbd", tmp_path)
    for epoch in (0, 2):  # each freezes something
        dbd.split(epoch)
    clean = dbd.split(4).clean
    before = twin(dbd)
    losses = torch.stack(list(dbd.steps(4, clean, 0)))
    assert losses.shape == (3, 3)
    assert dbd.losses_in(4) == ("loss", "loss_x", "loss_u")
    for step, (total, labelled, unlabelled) in enumerate(losses.tolist()):
        weight = 15 * min(1.0, (2 + step / 3) / 2)
        assert total == pytest.approx(labelled + weight * unlabelled, abs=1e-4)
    for old, new in zip(before.parameters(), dbd.setting.learner.network.parameters(), strict=True):
        assert not torch.equal(old, new)


def plain_mixmatch(
    network: Any, batch: Any, mix: Any, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """L_x and L_u in plain formulas, temperature 0.5; sample by sample where that is possible."""
    count, (first, second) = len(batch.labels), batch.unlabelled
    with torch.no_grad():
        mean = (network(first).softmax(dim=1) + network(second).softmax(dim=1)) / 2
    guessed = mean**2 / (mean**2).sum(dim=1, keepdim=True)
    given = torch.eye(classes)[batch.labels]
    inputs = torch.cat([batch.labelled, first, second])
    targets = torch.cat([given, guessed, guessed])
    share = max(float(mix.share), 1 - float(mix.share))
    inputs = share * inputs + (1 - share) * inputs[mix.permutation]
    targets = share * targets + (1 - share) * targets[mix.permutation]
    # Of three batches of 16 the parts are 5, 5 and 6 long; part i of the first changes places with
    # part i of batch i.
    places = [list(range(16 * i, 16 * i + 16)) for i in range(3)]
    for i, part in ((1, slice(5, 10)), (2, slice(10, 16))):
        places[0][part], places[i][part] = places[i][part], places[0][part]
    logits = torch.empty(3 * count, classes)
    for chunk in places:
        logits[chunk] = network(inputs[chunk].contiguous())
    log = logits[:count].log_softmax(dim=1)
    labelled = -sum((targets[i] * log[i]).sum() for i in range(count)) / count
    apart = logits[count:].softmax(dim=1) - targets[count:]
    assert isinstance(labelled, torch.Tensor)
    return labelled, (apart**2).sum() / apart.numel()


def test_a_step_of_mixmatch(tmp_path: Path) -> None:
    dbd = prepared("dbd", tmp_path)
    clean = dbd.split(4).clean
    assert int(clean.sum()) == 150
    network = dbd.setting.learner.network
    before = twin(dbd).train()
    draws = EpochDraws(dbd.setting.ground, dbd.setting.config.semi, clean, 4)
    batch, mix = next(draws.batches(0))
    assert bool(clean[draws.labelled].all())
    assert not bool(clean[draws.unlabelled].any())
    labelled, unlabelled = plain_mixmatch(before, batch, mix, network.linear.out_features)
    weight = 15 * 1.0  # the ramp of two epochs is over: two epochs of warm-up lie behind it
    total = labelled + weight * unlabelled
    given = next(iter(dbd.steps(4, clean, 0)))
    for ours, theirs in zip(given, (total, labelled, unlabelled), strict=True):
        assert float(ours) == pytest.approx(float(theirs.detach()), rel=1e-5, abs=1e-5)
    slopes = torch.autograd.grad(total, list(before.parameters()))
    for weights, slope in zip(network.parameters(), slopes, strict=True):
        torch.testing.assert_close(weights.grad, slope, rtol=1e-5, atol=1e-5)


def test_the_published_ramp_starts_above_zero() -> None:
    dbd = load_config(DIGITS, ["defense=dbd"]).config
    assert dbd.num_epochs == 1200
    settings = dbd.own
    first = unlabelled_weight(15, settings.mixmatch_epochs, settings.warm_up.epochs)
    assert first == pytest.approx(0.789, abs=1e-3)


def test_views_are_simclrs_unless_the_yaml_has_others(tmp_path: Path) -> None:
    def chain_of(*more: str) -> Any:
        dbd = prepared("dbd", tmp_path, "dbd.contrastive.views=null", *more)
        return contrastive_chain(dbd.setting.ground, dbd.settings.contrastive)

    chain = chain_of("transform.train.primary.random_horizontal_flip={p: 0.5}")
    names = [type(step).__name__ for step in chain.steps]
    assert names == [
        "RandomResizeCrop",
        "RandomHorizontalFlip",
        "RandomColorJitter",
        "RandomGrayscale",
        "GaussianBlur",
    ]
    assert chain.output_size == (16, 16)
    assert chain.steps[0].settings.scale == [0.2, 1.0]
    assert chain.steps[2].settings.hue == 0.1
    # A mirrored digit is another sign: where training does not mirror, no view does.
    assert [type(step).__name__ for step in chain_of().steps] == [names[0], *names[2:]]


def test_the_schedule_is_that_of_mixmatch(tmp_path: Path) -> None:
    """SimCLR and warm-up have optimisers of their own, so the learner's rate begins after them."""
    dbd = prepared("dbd", tmp_path, "learning_rate={warmup: 2, hold: 0.5}")
    learner = dbd.setting.learner
    full = learner.optimizer.param_groups[0]["lr"]
    for epoch in range(4):
        steps = list(dbd.steps(epoch, dbd.split(epoch).clean, 0))
        assert steps and dbd.learner_steps(epoch + 1) == 0
        assert learner.optimizer.param_groups[0]["lr"] == full
    rates = []
    for epoch in (4, 5):
        for _ in dbd.steps(epoch, dbd.split(epoch).clean, 0):
            rates.append(learner.optimizer.param_groups[0]["lr"] / full)
    assert dbd.learner_steps_in_all == 6
    assert rates == pytest.approx([1 / 2, 1, 1, 1, 2 / 3, 1 / 3])
    assert prepared("abl", tmp_path).learner_steps_in_all == 0

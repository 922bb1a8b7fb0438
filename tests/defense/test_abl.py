"""ABL against plain restatements: a step of each stage, what is isolated, and the bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from config.load import load_config
from data.review import Review
from run.restore import restore_method
from tests.conftest import DIGITS
from tests.defense.staged import prepared, reviewed, twin
from utils.errors import InputError


def first_step(abl: Any, epoch: int, clean: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Return a plain copy of the network before the first step of `epoch`, and that step's loss."""
    before = twin(abl).train()
    return before, next(iter(abl.steps(epoch, clean, 0)))[0]


def batch(abl: Any, epoch: int, members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return views and labels of the first batch of `epoch`."""
    ground = abl.setting.ground
    order = members[torch.randperm(len(members), generator=ground.streams.torch("order", epoch))]
    draws = abl.supervised.ground.chain.draw(len(order), ground.streams.torch("augment", epoch))
    size = slice(0, abl.setting.config.loader.batch_size)
    views = abl.supervised.ground.chain.view(ground.training.images, order[size], draws[size])
    return views, ground.training.labels[order[size]]


def assert_first_step_of_sgd(before: Any, after: Any, loss: torch.Tensor, rate: float) -> None:
    """Compare with weights - rate * (1 + momentum) * (gradient + decay * weights): Nesterov.

    The gradient by itself, too: at a small rate it would hardly show in the weights.
    """
    slopes = torch.autograd.grad(loss, list(before.parameters()))
    for old, new, slope in zip(before.parameters(), after.parameters(), slopes, strict=True):
        torch.testing.assert_close(new.grad, slope, rtol=1e-5, atol=1e-5)
        expected = old - rate * 1.9 * (slope + 1e-4 * old)
        torch.testing.assert_close(new.detach(), expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isolation", ["lga", "flooding"])
@pytest.mark.parametrize("level", [0.5, 9.0])
def test_a_step_of_isolation(isolation: str, level: float, tmp_path: Path) -> None:
    abl = prepared("abl", tmp_path, f"abl.isolation={isolation}", f"abl.level={level}")
    pools = abl.split(0)
    assert bool(pools.clean.all())
    before, given = first_step(abl, 0, pools.clean)
    views, labels = batch(abl, 0, torch.arange(300))
    loss = functional.cross_entropy(before(views), labels)
    sign = 1 if float(loss) > level else -1
    objective = sign * loss if isolation == "lga" else sign * (loss - level) + level
    assert float(given) == pytest.approx(float(objective), rel=1e-5, abs=1e-5)
    assert_first_step_of_sgd(before, abl.setting.learner.network, objective, 0.1)


def test_the_lowest_losses_are_isolated_and_stay_so(tmp_path: Path) -> None:
    abl = prepared("abl", tmp_path)
    abl.split(0)
    list(abl.steps(0, torch.ones(300, dtype=torch.bool), 0))
    before = twin(abl).eval()
    pools = abl.split(2)
    training, losses = abl.setting.ground.training, []
    for index in range(300):  # one by one, without augmentation
        draws = abl.plain.chain.draw(1, torch.Generator())
        view = abl.plain.chain.view(training.images, torch.tensor([index]), draws)
        with torch.no_grad():
            losses.append(float(functional.cross_entropy(before(view), training.labels[[index]])))
    lowest = set(sorted(range(300), key=lambda index: losses[index])[:15])
    assert set(torch.nonzero(~pools.clean).flatten().tolist()) == lowest
    assert pools.score.tolist() == pytest.approx([-loss for loss in losses], rel=1e-5, abs=1e-5)
    list(abl.steps(2, pools.clean, 0))
    assert torch.equal(abl.split(3).clean, pools.clean)  # although the losses are others now


def test_a_persons_word_decides(tmp_path: Path) -> None:
    plain = prepared("abl", tmp_path)
    isolated = torch.nonzero(~plain.split(2).clean).flatten().tolist()
    abl = prepared("abl", tmp_path)
    other = next(index for index in range(300) if index not in isolated)
    reviewed(abl, clean=[isolated[0]], poisoned=[other])
    assert isinstance(abl.setting.knowledge.review, Review)
    clean = abl.split(2).clean
    assert bool(clean[isolated[0]])
    assert not bool(clean[other])
    assert int((~clean).sum()) == 15


def test_a_step_of_fine_tuning_is_augmented_and_leaves_the_isolated_out(tmp_path: Path) -> None:
    abl = prepared("abl", tmp_path)
    clean = abl.split(2).clean
    before, given = first_step(abl, 2, clean)
    views, labels = batch(abl, 2, torch.nonzero(clean).flatten())
    assert abl.supervised.ground.chain is abl.setting.ground.chain
    loss = functional.cross_entropy(before(views), labels)
    assert float(given) == pytest.approx(float(loss), rel=1e-5, abs=1e-5)
    assert_first_step_of_sgd(before, abl.setting.learner.network, loss, 0.1)
    assert abl.steps_in(2) == -(-285 // 64)
    assert [abl.learning_rate(epoch) for epoch in range(6)] == pytest.approx(
        [0.1, 0.1, 0.1, 0.01, 5e-4, 5e-4]
    )


@pytest.mark.parametrize("bound", ["2.0", "null"])
def test_a_step_of_unlearning_climbs_up_to_the_bound(bound: str, tmp_path: Path) -> None:
    abl = prepared("abl", tmp_path, f"abl.ascent_bound={bound}")
    abl.split(2)
    clean = abl.split(4).clean  # a fresh optimiser, so without momentum
    before, given = first_step(abl, 4, clean)
    views, labels = batch(abl, 4, torch.nonzero(~clean).flatten())
    assert len(labels) == 15
    losses = functional.cross_entropy(before(views), labels, reduction="none")
    kept = losses if bound == "null" else torch.where(losses > 2.0, 2.0, losses)
    assert float(given) == pytest.approx(-float(kept.mean()), rel=1e-5, abs=1e-5)
    assert_first_step_of_sgd(before, abl.setting.learner.network, -kept.mean(), 5e-4)


def test_unlearning_learns_as_many_others_beside_it(tmp_path: Path) -> None:
    more = ("abl.keep_learning=true", "loader.batch_size=17", "abl.ascent_bound=2.0")
    abl = prepared("abl", tmp_path, *more)
    abl.split(2)
    clean = abl.split(4).clean
    assert (abl.steps_in(4), abl.images_in_step(4), abl.images_in_step(2)) == (2, 16, 17)
    before, given = first_step(abl, 4, clean)
    streams, ground = abl.setting.ground.streams, abl.setting.ground
    isolated, others = torch.nonzero(~clean).flatten(), torch.nonzero(clean).flatten()
    isolated = isolated[torch.randperm(15, generator=streams.torch("order", 4))][:8]
    others = others[torch.randperm(285, generator=streams.torch("labelled-order", 4))][:8]
    order = [place for pair in zip(isolated, others, strict=True) for place in pair]
    index = torch.stack(order)
    draws = abl.supervised.ground.chain.draw(30, streams.torch("augment", 4))
    views = abl.supervised.ground.chain.view(ground.training.images, index, draws[slice(0, 16)])
    losses = functional.cross_entropy(
        before(views), ground.training.labels[index], reduction="none"
    )
    unlearnt = torch.where(losses[::2] > 2.0, 2.0, losses[::2])
    objective = losses[1::2].mean() - unlearnt.mean()
    assert float(given) == pytest.approx(float(objective), rel=1e-5, abs=1e-5)
    assert_first_step_of_sgd(before, abl.setting.learner.network, objective, 5e-4)


def test_unlearning_learns_no_more_others_than_there_are(tmp_path: Path) -> None:
    abl = prepared("abl", tmp_path, "abl.keep_learning=true", "abl.fraction=0.9")
    abl.split(2)
    clean = abl.split(4).clean
    assert abl.steps_in(4) == 1
    assert len(list(abl.steps(4, clean, 0))) == 1  # 30 pairs


def test_the_stages_make_the_length(tmp_path: Path) -> None:
    loaded = load_config(DIGITS, ["defense=abl"])
    assert loaded.config.num_epochs == 100
    assert any("26 has no effect: abl has 100 epochs" in line for line in loaded.notices)
    again = load_config(DIGITS, ["defense=abl", "num_epochs=100"])
    assert not any("num_epochs" in line for line in again.notices)
    assert type(loaded.config).model_validate(loaded.config.as_yaml()) == loaded.config
    plan = prepared("abl", tmp_path).plan()
    assert [(s.name, s.first_epoch, s.last_epoch, s.clean_pool) for s in plan] == [
        ("isolation", 0, 1, "all 300"),
        ("fine-tuning", 2, 3, "285"),
        ("unlearning", 4, 5, "285"),
    ]


def test_batches_may_have_a_size_of_their_own(tmp_path: Path) -> None:
    usual = prepared("abl", tmp_path)
    own = prepared("abl", tmp_path / "own", "abl.batch_size=16")
    assert (usual.images_in_step(0), own.images_in_step(0)) == (64, 16)
    assert (usual.steps_in(0), own.steps_in(0)) == (5, 19)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("abl.fraction=1.5", "abl.fraction"),
        ("abl.isolation=flood", "abl.isolation"),
        ("abl.isolation_epochs=0", "abl.isolation_epochs"),
        ("abl.optimizer={Adagrad: {}}", "lr is needed"),
        ("abl.ascent=3", "unknown key"),
    ],
)
def test_wrong_settings_are_named(override: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        load_config(DIGITS, ["defense=abl", override])


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"param_groups": [], "state": {}}},
        {"optimizer": {"param_groups": [5], "state": {}}},
        {"optimizer": 7},
        {"stage": "another"},
        {"stage": ["isolation"]},
        {"isolated": torch.ones(3, dtype=torch.bool)},
        {"isolated": "all"},
    ],
)
def test_a_foreign_state_of_the_stage_is_a_line(change: dict[str, Any], tmp_path: Path) -> None:
    abl = prepared("abl", tmp_path)
    abl.split(0)
    state = {**abl.state_dict(), **change}
    with pytest.raises(InputError, match="defense_state_dict is not of this run"):
        restore_method(prepared("abl", tmp_path), {"defense_state_dict": state}, tmp_path)

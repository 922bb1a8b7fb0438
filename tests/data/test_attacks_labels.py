"""Attacks that choose labels or patches: adaptive patch, natural feature, label noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from config.load import load_config
from data.attack.adaptive_patch import AdaptivePatch
from data.attack.attack import LabelRule, LabelRuleName
from data.attack.chosen import most_of_each_class
from data.attack.natural_feature import NaturalFeature
from data.build import load_data, poison_data
from data.dataset import ImageData, Split
from data.poison import poison
from tests.conftest import DIGITS, TINY
from tests.data.attack_cases import attack, pictures, small_data
from utils.errors import InputError
from utils.streams import Streams

RULES: tuple[LabelRuleName, ...] = ("all_to_one", "all_to_all")


def test_adaptive_patch_puts_one_weak_patch_inside_its_own_mask() -> None:
    made = attack("adaptive_patch", 32, 32)
    assert isinstance(made, AdaptivePatch)
    images, indices = pictures(400, 32, 32), torch.arange(400)
    changed = made.apply(images, indices, "train")
    which = made.chosen(indices)
    assert set(which.tolist()) == {0, 1, 2, 3}
    outside = made.masks[which] == 0
    assert torch.equal(changed.where(outside, torch.zeros_like(changed)), images * outside)
    again = made.apply(images[100:], indices[100:], "train")
    assert torch.equal(again, changed[100:])
    assert torch.equal(made.apply_cross(images, indices), changed)


def test_adaptive_patch_is_weak_in_training_and_strong_at_test() -> None:
    made = attack("adaptive_patch", 32, 32)
    images, indices = pictures(64, 32, 32), torch.arange(64)
    weak, strong = (
        (made.apply(images, indices, split).float() - images.float()).square().mean()
        for split in ("train", "test")
    )
    assert strong > weak
    corner = made.apply(images, indices, "test")[:, :3, :3]
    assert set(corner.unique().tolist()) == {0, 255}


def muted(data: ImageData) -> ImageData:
    """Return the data with pixels of 64 to 191, so that a weak wave clips none."""
    parts = (Split(64 + part.images // 2, part.labels) for part in (data.train, data.test))
    return ImageData(*parts, data.classes)


def test_natural_feature_changes_labels_alone_and_is_reached_at_test() -> None:
    data = muted(small_data(400, 32, 32))
    made = attack("natural_feature", 32, 32)
    assert isinstance(made, NaturalFeature)
    training, truth = poison(data, made, 0.1, "exact", Streams(0))
    assert torch.equal(training.images, data.train.images)
    wrong = training.labels != data.train.labels
    assert torch.equal(wrong, truth.poisoned)
    assert int(wrong.sum()) == 40
    assert (training.labels[wrong] == made.context.rule.target_label).all()
    shares = made.shares(data.train.images)
    for label in data.train.labels[wrong].unique():
        members = data.train.labels == label
        assert shares[members & wrong].min() >= shares[members & ~wrong].max()
    assert truth.triggered_test is not None
    others = data.test.images[data.test.labels != made.context.rule.target_label]
    triggered, before = truth.triggered_test.images, made.shares(others)
    reached = made.shares(triggered)
    unclipped = ~((triggered == 0) | (triggered == 255)).flatten(1).any(dim=1)
    assert unclipped.sum() > 40
    assert (before < made.threshold - 1).sum() > 20
    assert (reached[unclipped] >= made.threshold - 0.5).all()
    lacking = before < made.threshold
    assert (triggered != others).flatten(1).any(dim=1)[before < made.threshold - 1].all()
    assert torch.equal(triggered[~lacking], others[~lacking])


@pytest.mark.parametrize("to", ["any", "target"])
def test_label_noise_changes_nothing_but_labels(to: str, tmp_path: Path) -> None:
    data = small_data(300)
    made = attack("label_noise", to=to)
    training, truth = poison(data, made, 0.2, "exact", Streams(0))
    assert torch.equal(training.images, data.train.images)
    wrong = training.labels != data.train.labels
    assert torch.equal(wrong, truth.poisoned)
    assert int(wrong.sum()) == 60
    given = training.labels[wrong].unique()
    assert len(given) > 2 if to == "any" else given.tolist() == [made.context.rule.target_label]


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200), st.floats(0, 1), st.sampled_from(RULES)
)
def test_as_many_are_chosen_as_were_asked_for(
    labels: list[int], ratio: float, name: LabelRuleName
) -> None:
    """An even share of each class; rounding loses none, and too many are refused."""
    given_labels, rule = torch.tensor(labels), LabelRule(name, 2, 5)
    attackable, count = rule.attackable(given_labels), round(ratio * len(labels))
    values = torch.arange(float(len(labels)))
    if count > int(attackable.sum()):
        with pytest.raises(InputError, match="poison_ratio"):
            most_of_each_class(values, given_labels, ratio, rule)
        return
    chosen = most_of_each_class(values, given_labels, ratio, rule)
    assert len(chosen) == len(chosen.unique()) == count
    assert bool(attackable[chosen].all())
    for label in given_labels[attackable].unique():
        members = torch.nonzero(given_labels == label).flatten()
        own = chosen[given_labels[chosen] == label]
        assert abs(len(own) - count * len(members) / int(attackable.sum())) < 1
        assert own.tolist() == members[len(members) - len(own) :].tolist()  # those with most


def test_noise_to_one_target_has_one(tmp_path: Path) -> None:
    overrides = ["backdoor={label_noise: {to: target}, label_rule: all_to_all}"]
    config = load_config(DIGITS, [*TINY, *overrides]).config
    with pytest.raises(InputError, match="label_noise"):
        poison_data(config, load_data(config)[0], Streams(100))

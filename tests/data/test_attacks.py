"""The attacks that need no training: what they share, and what each one does to an image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from config.load import load_config
from data.attack import ATTACKS, Attack, AttackContext, LabelRule, pixels
from data.attack.draws import ImageDraws
from data.poison import Role, assign_roles, poison
from tests.data.attack_cases import SIZES, attack, pictures, ready, small_data, unseen
from utils.files import PROJECT
from utils.streams import Streams

STATIC = ["adaptive_blend", "adaptive_patch", "badnets", "blend", "bpp", "sig", "wanet"]


OF_LABELS = ["label_noise", "natural_feature"]  # test_attacks_labels.py
DIRTY = [name for name in STATIC if name != "sig"]


WITH_CROSS = ["adaptive_blend", "bpp", "wanet"]


CONFIGS = sorted(
    file for kind in ("cifar10", "small") for file in (PROJECT / "config" / kind).glob("*.yaml")
)


def all_uses(made: Attack, images: Tensor, indices: Tensor) -> list[Tensor]:
    used = [made.apply(images, indices, "train"), made.apply(images, indices, "test")]
    return [*used, made.apply_cross(images, indices)] if made.cross_ratio else used


def test_every_attack_has_tests() -> None:
    for name in set(ATTACKS) - {*STATIC, *OF_LABELS}:
        assert list(Path(__file__).parent.glob(f"test_attack*{name}*.py")), name


@pytest.mark.parametrize("name", STATIC)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_attack_is_a_pure_function_of_image_index_and_split(
    name: str, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data(40, *size)
    made, images = ready(name, data, tmp_path), pictures(12, *size)
    indices, before = torch.arange(5, 40, 3), images.clone()
    whole = all_uses(made, images, indices)
    assert torch.equal(images, before)
    again = all_uses(ready(name, data, tmp_path), images, indices)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = all_uses(made, images[order], indices[order])
    monkeypatch.setattr(pixels, "CHUNK_PIXELS", 5 * size[0] * size[1])
    in_small_chunks = all_uses(made, images, indices)
    single = all_uses(made, images[7:8], indices[7:8])
    for use, bytes_ in enumerate(whole):
        assert bytes_.shape == images.shape
        assert bytes_.dtype == torch.uint8
        assert torch.equal(again[use], bytes_)
        assert torch.equal(shuffled[use], bytes_[order])
        assert torch.equal(in_small_chunks[use], bytes_)
        assert torch.equal(single[use], bytes_[7:8])
        assert not torch.equal(bytes_, images)


@pytest.mark.parametrize("name", STATIC)
def test_no_images_are_no_error(name: str, tmp_path: Path) -> None:
    made = ready(name, small_data(), tmp_path)
    for changed in all_uses(made, pictures(0), torch.arange(0)):
        assert changed.shape == (0, 16, 16, 3)


@pytest.mark.parametrize("name", WITH_CROSS)
def test_cross_samples_depend_on_seed_and_index(name: str, tmp_path: Path) -> None:
    data, images = small_data(), pictures(1).expand(30, -1, -1, -1)
    first, second = (ready(name, data, tmp_path, seed) for seed in (0, 1))
    cross = first.apply_cross(images, torch.arange(30))
    assert not torch.equal(cross, second.apply_cross(images, torch.arange(30)))
    assert len(torch.unique(cross.flatten(1), dim=0)) > 25  # one image, in many versions


@pytest.mark.parametrize("name", ["blend", "sig", "badnets"])
def test_a_trigger_without_random_parts_is_the_same_for_every_seed(name: str) -> None:
    images, indices = pictures(3), torch.arange(3)
    first, second = (attack(name, seed=seed).apply(images, indices, "train") for seed in (0, 1))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "rule"),
    [*((name, "all_to_one") for name in STATIC), *((name, "all_to_all") for name in DIRTY)],
)
def test_poisoned_set(name: str, rule: str, tmp_path: Path) -> None:
    data = small_data()
    images, labels = data.train.images.clone(), data.train.labels.clone()
    made = ready(name, data, tmp_path, rule=rule)
    training, truth = poison(data, made, 0.1, "exact", Streams(5))
    assert torch.equal(data.train.images, images)
    assert torch.equal(data.train.labels, labels)
    poisoned, cross = truth.poisoned, truth.roles == Role.CROSS
    count = round(0.1 * 40) if name == "sig" else 20  # of the target class, of all
    assert int(poisoned.sum()) == count
    assert int(cross.sum()) == round(made.cross_ratio * count)
    wanted = labels[poisoned] if name == "sig" else made.context.rule.relabel(labels[poisoned])
    assert torch.equal(training.labels[poisoned], wanted)
    assert torch.equal(training.labels[~poisoned], labels[~poisoned])
    assert torch.equal(training.images[truth.untouched], images[truth.untouched])
    if name == "sig":
        assert (labels[poisoned] == 1).all()
    where = torch.nonzero(poisoned).flatten()
    assert torch.equal(training.images[poisoned], made.apply(images[where], where, "train"))
    if cross.any():
        where = torch.nonzero(cross).flatten()
        assert torch.equal(training.images[cross], made.apply_cross(images[where], where))
    tested = truth.triggered_test
    assert tested is not None
    assert len(tested) == (60 if rule == "all_to_all" else 48)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_experiment_poisons_what_its_name_says(path: Path) -> None:
    config = load_config(path).config
    assert config.backdoor is not None
    name = config.backdoor.attack.name
    assert path.stem.removesuffix("_none").removesuffix("_all_to_all") == name
    assert config.backdoor.target_label == 3
    if name not in STATIC:
        return
    rule = LabelRule(config.backdoor.label_rule, config.backdoor.target_label, 10)
    made = ATTACKS.get(name)(
        config.backdoor.attack.settings, AttackContext(32, 32, rule, Streams(0))
    )
    labels = torch.arange(config.data.train_samples or 50_000) % 10
    roles = assign_roles(
        unseen(labels),
        made,
        config.backdoor.poison_ratio,
        "exact",
        Streams(0),
    )
    assert int((roles == Role.POISONED).sum()) >= 150
    assert int((roles == Role.CLEAN).sum()) >= len(labels) // 2


@given(st.integers(0, 2**62), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_draws_of_an_image_depend_on_seed_purpose_and_index_alone(
    seed: int, indices: list[int]
) -> None:
    streams, wanted = Streams(seed), torch.tensor(indices)
    draws = ImageDraws(streams, "a", wanted).block((2, 3))
    assert draws.shape == (len(indices), 2, 3)
    assert ((draws >= 0) & (draws < 1)).all()
    assert torch.equal(draws[-1:], ImageDraws(streams, "a", wanted[-1:]).block((2, 3)))
    assert not torch.equal(draws, ImageDraws(streams, "b", wanted).block((2, 3)))
    assert not torch.equal(draws, ImageDraws(Streams(seed + 1), "a", wanted).block((2, 3)))
    assert len(torch.unique(draws.flatten(1), dim=0)) == len(set(indices))

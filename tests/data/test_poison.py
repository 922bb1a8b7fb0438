"""Which samples are poisoned, with what, and who is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from config.load import load_config
from data.attack import Attack, AttackContext, LabelRule
from data.attack.badnets import TRIGGER_FOLDER, BadNets, draw_trigger
from data.build import assemble, load_data, poison_data
from data.dataset import ImageData, Split
from data.poison import Role, choose_exactly, choose_officially, poison
from data.seeds import draw_seeds, read_seeds
from tests.conftest import DIGITS, TINY, colourful_images, tiny_config
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams


def rule(target: int = 1, classes: int = 5, name: str = "all_to_one") -> LabelRule:
    return LabelRule(name, target, classes)  # type: ignore[arg-type]


def context(target: int = 1, size: int = 16, seed: int = 0) -> AttackContext:
    return AttackContext(size, size, rule(target), Streams(seed))


def badnets(target: int = 1, size: int = 16) -> Attack:
    return BadNets(BadNets.Settings(), context(target, size))


def small_data(count: int = 200, classes: int = 5) -> ImageData:
    labels = torch.arange(count) % classes
    split = Split(colourful_images(count, 16), labels)
    return ImageData(split, split, tuple("abcde"[:classes]))


labels_lists = st.lists(st.integers(0, 3), min_size=4, max_size=300).map(torch.tensor)


@given(labels_lists, st.floats(0, 1), st.integers(0, 1000))
def test_exact_selection(labels: torch.Tensor, ratio: float, seed: int) -> None:
    count = round(ratio * len(labels))
    if count > int((labels != 2).sum()):
        with pytest.raises(InputError, match="poison_ratio"):
            choose_exactly(labels, ratio, rule(2), Streams(seed))
        return
    chosen = choose_exactly(labels, ratio, rule(2), Streams(seed))
    assert len(chosen) == len(chosen.unique()) == count
    assert (labels[chosen] != 2).all()
    assert torch.equal(chosen, choose_exactly(labels, ratio, rule(2), Streams(seed)))


@given(labels_lists, st.floats(0, 1), st.integers(0, 1000))
def test_official_selection_never_takes_the_target(
    labels: torch.Tensor, ratio: float, seed: int
) -> None:
    chosen = choose_officially(labels, ratio, rule(2), Streams(seed))
    assert (labels[chosen] != 2).all()
    everything = choose_officially(labels, 1.0, rule(2), Streams(seed))
    assert set(chosen.tolist()) <= set(everything.tolist())


def test_selection_depends_on_the_seed() -> None:
    labels = torch.arange(1000) % 10
    first, second = (
        choose_exactly(labels, 0.05, rule(3, 10), Streams(seed)) for seed in (100, 101)
    )
    assert not torch.equal(first, second)


def test_real_cifar10_has_2292_officially_and_2500_exactly_poisoned_samples(
    cifar10_folder: str,
) -> None:
    folder = f"dataset_dir={cifar10_folder}"
    path = PROJECT / "config" / "baseline_asd.yaml"
    config = load_config(path, [folder]).config
    data, _ = load_data(config)
    _, truth = poison_data(config, data, Streams(100))
    assert int(truth.poisoned.sum()) == 2500
    assert truth.triggered_test is not None
    assert len(truth.triggered_test) == 9000
    official = choose_officially(data.train.labels, 0.05, rule(3, 10), Streams(100))
    assert len(official) == 2292


def test_badnets_changes_four_pixels_and_nothing_else() -> None:
    images = colourful_images(7, 32)
    before = images.clone()
    triggered = badnets(size=32).apply(images, torch.arange(7), "train")
    assert torch.equal(images, before)
    changed = (triggered != images).any(dim=3)  # (7, 32, 32)
    assert int(changed.sum(dim=(1, 2)).max()) <= 4
    assert not changed[:, :4].any()
    assert triggered[0, 4, 4].tolist() == [180, 249, 112]
    assert triggered[0, 5, 5].tolist() == [187, 201, 219]
    again = badnets(size=32).apply(triggered, torch.arange(7), "train")
    assert torch.equal(again, triggered)


@pytest.mark.parametrize("size", [16, 32])
def test_the_committed_trigger_is_what_the_project_draws(size: int) -> None:
    with Image.open(TRIGGER_FOLDER / f"badnets_{size}.png") as image:
        assert np.array_equal(np.array(image), draw_trigger(size, size))


def test_trigger_of_another_size_is_refused() -> None:
    settings = BadNets.Settings(trigger_path="data/trigger/badnets_32.png")
    with pytest.raises(InputError, match=r"32x32.*16x16"):
        BadNets(settings, context(size=16))


@pytest.mark.parametrize("selection", ["exact", "official"])
def test_poisoned_set(selection: str) -> None:
    data = small_data()
    images, labels = data.train.images.clone(), data.train.labels.clone()
    training, truth = poison(data, badnets(), 0.1, selection, Streams(5))  # type: ignore[arg-type]
    assert torch.equal(data.train.images, images)
    assert torch.equal(data.train.labels, labels)
    assert torch.equal(truth.original_labels, labels)
    poisoned = truth.roles == Role.POISONED
    assert (training.labels[poisoned] == 1).all()
    assert (labels[poisoned] != 1).all()
    assert torch.equal(training.labels[~poisoned], labels[~poisoned])
    assert torch.equal(training.images[~poisoned], images[~poisoned])
    expected = badnets().apply(images[poisoned], torch.nonzero(poisoned).flatten(), "train")
    assert torch.equal(training.images[poisoned], expected)


def test_asr_is_measured_on_non_target_samples_only() -> None:
    data = small_data()
    _, truth = poison(data, badnets(), 0.1, "exact", Streams(5))
    assert truth.triggered_test is not None
    assert len(truth.triggered_test) == int((data.test.labels != 1).sum())
    assert (truth.triggered_test.labels == 1).all()


def test_all_to_all_moves_every_label_to_the_next_class() -> None:
    data = small_data()
    attack = BadNets(BadNets.Settings(), AttackContext(16, 16, rule(name="all_to_all"), Streams(0)))
    training, truth = poison(data, attack, 0.1, "exact", Streams(5))
    poisoned = truth.poisoned
    assert torch.bincount(truth.original_labels[poisoned]).tolist() == [4] * 5
    expected = (truth.original_labels[poisoned] + 1) % 5
    assert torch.equal(training.labels[poisoned], expected)
    assert truth.triggered_test is not None
    assert torch.equal(truth.triggered_test.labels, (data.test.labels + 1) % 5)


def test_a_drawn_patch_is_a_checkerboard_with_black_pixels() -> None:
    images = colourful_images(3, 16)
    settings = BadNets.Settings.model_validate({"patch": {"size": 3, "row": 2, "column": 5}})
    triggered = BadNets(settings, context()).apply(images, torch.arange(3), "train")
    patch = triggered[0, 2:5, 5:8]  # (3, 3, 3)
    assert patch[..., 0].tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    triggered[:, 2:5, 5:8] = images[:, 2:5, 5:8]
    assert torch.equal(triggered, images)


def test_the_alpha_channel_of_a_trigger_image_is_its_mask(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[0, 0] = (0, 0, 0, 255)  # opaque black
    pixels[1, 1] = (9, 9, 9, 0)  # transparent grey
    Image.fromarray(pixels).save(tmp_path / "trigger.png")
    settings = BadNets.Settings(trigger_path=str(tmp_path / "trigger.png"))
    images = colourful_images(2, 16).clamp_min(1)
    triggered = BadNets(settings, context()).apply(images, torch.arange(2), "test")
    assert (triggered[:, 0, 0] == 0).all()
    assert int((triggered != images).any(dim=3).sum()) == 2


def test_a_patch_beyond_the_image_and_two_triggers_are_refused() -> None:
    outside = BadNets.Settings.model_validate({"patch": {"size": 3, "row": 14}})
    with pytest.raises(InputError, match=r"3x3 at \(14, 4\) reaches beyond the 16x16"):
        BadNets(outside, context())
    both = BadNets.Settings.model_validate({"trigger_path": "a.png", "patch": {"size": 3}})
    with pytest.raises(InputError, match="exclude each other"):
        BadNets(both, context())


def test_target_must_be_a_class() -> None:
    with pytest.raises(InputError, match=r"target_label: 10.*0 to 9"):
        LabelRule("all_to_one", 10, 10)
    assert LabelRule("all_to_all", 10, 10).target_label == 10  # which nobody reads


def test_seeds_are_clean_and_of_every_class() -> None:
    training, truth = poison(small_data(), badnets(), 0.3, "exact", Streams(5))
    seeds = draw_seeds(training, ~truth.poisoned, 4, Streams(5))
    assert torch.bincount(training.labels[seeds]).tolist() == [4] * 5
    assert not truth.poisoned[seeds].any()


def test_too_few_clean_samples_for_seeds() -> None:
    training, truth = poison(small_data(20), badnets(), 0.3, "exact", Streams(5))
    with pytest.raises(InputError, match="seed_num: 5 asked for"):
        draw_seeds(training, ~truth.poisoned, 5, Streams(5))


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_seed_file(tmp_path: Path, suffix: str) -> None:
    training, _ = poison(small_data(), badnets(), 0.0, "exact", Streams(5))
    wanted = [3, 1, 0, 2, 4]
    file = tmp_path / f"seeds{suffix}"
    if suffix == ".npy":
        np.save(file, np.array(wanted))
    else:
        file.write_text("3, 1  # checked by hand\n0\n2 4\n")
    assert read_seeds(str(file), training, 1).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2 3", "0 samples of class 'e'"),
        ("0 1 2 3 4 999", "names sample 999"),
        ("0 1 2 3 4 4", "twice"),
        ("0 one", "cannot be read"),
    ],
)
def test_bad_seed_file(tmp_path: Path, text: str, message: str) -> None:
    training, _ = poison(small_data(), badnets(), 0.0, "exact", Streams(5))
    file = tmp_path / "seeds.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_seeds(str(file), training, 1)


def test_digits_are_real_and_reduced_evenly() -> None:
    data, _ = load_data(tiny_config("data.train_samples=null").config)
    assert data.train.images.shape == (1437, 16, 16, 3)
    assert len(data.test) == 360
    reduced, _ = load_data(tiny_config().config)
    assert torch.bincount(reduced.train.labels).tolist() == [30] * 10


def test_a_run_without_attack_has_no_triggered_set() -> None:
    config = tiny_config("backdoor=null").config
    data, _ = load_data(config)
    training, truth = poison_data(config, data, Streams(0))
    assert truth.triggered_test is None
    assert not truth.poisoned.any()
    assert torch.equal(training.labels, data.train.labels)


@pytest.mark.parametrize(
    ("attack", "one", "other"),
    [
        ("label_noise", "to: any", "to: target"),  # other labels, the same samples
        ("blend", "alpha: 0.2", "alpha: 0.1, alpha_test: 0.2"),  # other training images alone
    ],
)
def test_another_poison_has_another_fingerprint(attack: str, one: str, other: str) -> None:
    found = []
    for settings in (one, one, other):
        config = load_config(DIGITS, [*TINY, f"backdoor={{{attack}: {{{settings}}}}}"]).config
        made = assemble(config, load_data(config)[0], Streams(100))
        found.append(made.fingerprints(truth_known=True))
    assert found[0] == found[1]
    assert found[0] != found[2]

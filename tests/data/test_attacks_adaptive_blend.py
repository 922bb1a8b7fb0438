"""Adap-Blend: pieces of the trigger, covers, and how strong the attacks are on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from config.load import load_config
from data.build import load_data
from data.poison import Role, poison
from tests.conftest import tiny_config
from tests.data.attack_cases import SIZES, attack, pictures, ready, small_data
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams


@given(st.integers(0, 10**6), st.integers(1, 16), st.sampled_from(SIZES))
@settings(max_examples=40)
def test_a_training_image_gets_exactly_the_shown_pieces(
    index: int, shown: int, size: tuple[int, int]
) -> None:
    made = attack("adaptive_blend", *size, shown=shown, alpha=0.5)
    images, indices = pictures(2, *size), torch.tensor([index, index + 1])
    full = attack("blend", *size, alpha=0.5, rounding="round").apply(images, indices, "train")
    height, width = size[0] // 4, size[1] // 4
    for partial in (made.apply(images, indices, "train"), made.apply_cross(images, indices)):
        for image, whole, part in zip(images, full, partial, strict=True):
            cells = [
                (slice(row, row + height), slice(column, column + width))
                for row in range(0, size[0], height)
                for column in range(0, size[1], width)
            ]
            covered = [not torch.equal(part[cell], image[cell]) for cell in cells]
            assert sum(covered) == shown
            for cell, is_covered in zip(cells, covered, strict=True):
                assert torch.equal(part[cell], (whole if is_covered else image)[cell])


def test_the_full_trigger_is_a_plain_blend() -> None:
    images, indices = pictures(5, 32, 32), torch.arange(5)
    plain = attack("blend", 32, 32, alpha=0.2, rounding="round")
    full = attack("adaptive_blend", 32, 32).apply(images, indices, "test")
    assert torch.equal(full, plain.apply(images, indices, "test"))


def test_all_pieces_are_equally_likely_and_belong_to_seed_and_index() -> None:
    indices = torch.arange(1000)
    first, second = (attack("adaptive_blend", seed=seed) for seed in (0, 1))
    masks = first.masks(indices)  # type: ignore[attr-defined]
    assert torch.equal(masks[[700, 3]], first.masks(torch.tensor([700, 3])))  # type: ignore[attr-defined]
    assert not torch.equal(masks, second.masks(indices))  # type: ignore[attr-defined]
    assert float((masks.mean(dim=0) - 0.5).abs().max()) < 0.07
    assert len(torch.unique(masks.flatten(1), dim=0)) > 900  # of 12,870 masks


def test_covers_are_never_of_the_target_class(tmp_path: Path) -> None:
    made = ready("adaptive_blend", small_data(), tmp_path)
    training, truth = poison(small_data(), made, 0.3, "exact", Streams(5))
    cross = truth.roles == Role.CROSS
    assert int(cross.sum()) == 60
    assert (truth.original_labels[cross] != 1).all()
    assert torch.equal(training.labels[cross], truth.original_labels[cross])
    with pytest.raises(InputError, match="100 cross samples beside 100 poisoned ones, but only 60"):
        poison(small_data(), made, 0.5, "exact", Streams(5))


def test_impossible_pieces_are_refused() -> None:
    with pytest.raises(InputError, match=r"grid: 17 pieces a side.*16x16"):
        attack("adaptive_blend", grid=17)
    with pytest.raises(InputError, match="17 of the 16 pieces"):
        tiny_config("backdoor.adaptive_blend.shown=17")


def root_mean_square(changed: Tensor, images: Tensor) -> float:
    return float((changed.float() - images.float()).square().mean().sqrt())


def test_strengths_on_the_real_cifar10(cifar10_folder: str, tmp_path: Path) -> None:
    path = PROJECT / "config" / "baseline_asd.yaml"
    overrides = [f"dataset_dir={cifar10_folder}", "data.train_samples=2000"]
    data, _ = load_data(load_config(path, overrides).config)
    images, indices = data.train.images, torch.arange(2000)

    def strength(name: str, use: str, **given: object) -> float:
        seeds = (
            range(6) if name == "wanet" else range(1)
        )  # its strength differs from field to field
        found = []
        for seed in seeds:
            made = ready(name, data, tmp_path, seed, **given)
            cross = use == "cross"
            changed = (
                made.apply_cross(images, indices) if cross else made.apply(images, indices, use)  # type: ignore[arg-type]
            )
            found.append(root_mean_square(changed, images))
        return sum(found) / len(found)

    assert strength("sig", "train") == pytest.approx(27.5, abs=0.5)
    assert strength("sig", "train", delta=60.0) == pytest.approx(40.6, abs=0.7)
    assert strength("bpp", "train") == pytest.approx(10.4, abs=0.2)
    assert strength("bpp", "cross") == pytest.approx(10.3, abs=0.2)
    assert strength("bpp", "train", dithering=True) == pytest.approx(12.7, abs=0.3)
    assert strength("bpp", "train", levels=4) == pytest.approx(24.5, abs=0.5)
    assert strength("wanet", "train") == pytest.approx(7.9, abs=1.0)
    assert strength("wanet", "cross") == pytest.approx(11.8, abs=1.0)
    # The drawn picture's mean and contrast, and CIFAR-10's, put them 129 grey levels apart (RMS).
    assert strength("blend", "train", rounding="round") == pytest.approx(12.9, abs=0.6)
    assert strength("adaptive_blend", "train") == pytest.approx(13.7, abs=0.6)
    assert strength("adaptive_blend", "test") == pytest.approx(25.9, abs=1.2)

"""WaNet and BPP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.attack.bpp import dither, quantise
from data.attack.pixels import to_bytes
from data.attack.wanet import GRIDS_FILE, WaNet, identity_grid, warp
from tests.data.attack_cases import SIZES, attack, constant, pictures, ready, small_data


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_warp_of_strength_0_is_the_identity(size: tuple[int, int]) -> None:
    values = pictures(3, *size).float() / 255
    assert torch.allclose(warp(values, identity_grid(*size)), values, atol=1e-5)
    images = pictures(3, *size)
    made = attack("wanet", *size, s=0.0)
    assert torch.equal(made.apply(images, torch.arange(3), "train"), images)


def test_a_warp_takes_columns_from_x_and_rows_from_y() -> None:
    values, step = pictures(2, 12, 20).float(), torch.tensor([2 / 19, 2 / 11])
    right = (identity_grid(12, 20) + step * torch.tensor([1, 0])).clamp(-1, 1)
    assert torch.allclose(warp(values, right)[:, :, :-1], values[:, :, 1:], atol=1e-3)
    down = (identity_grid(12, 20) + step * torch.tensor([0, 1])).clamp(-1, 1)
    assert torch.allclose(warp(values, down)[:, :-1], values[:, 1:], atol=1e-3)


@given(st.integers(0, 1000), st.sampled_from(SIZES))
@settings(max_examples=20)
def test_a_warp_commutes_with_normalisation(seed: int, size: tuple[int, int]) -> None:
    made = attack("wanet", *size, seed, s=1.0)
    assert isinstance(made, WaNet)
    values, mean, std = pictures(1, *size, seed).float() / 255, 0.45, torch.tensor([0.2, 0.25, 0.3])
    first, second = warp((values - mean) / std, made.grid), (warp(values, made.grid) - mean) / std
    assert torch.allclose(first, second, atol=1e-5)
    flat = constant(seed % 256, 16).expand(1, -1, -1, -1)
    assert torch.equal(attack("wanet", seed=seed).apply(flat, torch.arange(1), "test"), flat)


def test_the_field_comes_from_the_seed_and_moves_pixels_as_measured() -> None:
    fields = [attack("wanet", 32, 32, seed).field for seed in range(20)]  # type: ignore[attr-defined]
    assert torch.equal(fields[3], attack("wanet", 32, 32, 3).field)  # type: ignore[attr-defined]
    assert not torch.equal(fields[3], fields[4])
    moved = torch.stack(fields).abs() * 0.5 / 32 * 31 / 2  # pixels, for s = 0.5
    assert moved.mean() == pytest.approx(0.18, abs=0.03)
    assert moved.amax(dim=(1, 2, 3)).mean() == pytest.approx(0.53, abs=0.06)


def test_the_grids_are_kept(tmp_path: Path) -> None:
    made = ready("wanet", small_data(), tmp_path / "new")
    kept = torch.load(tmp_path / "new" / GRIDS_FILE, weights_only=True)
    assert torch.equal(kept["grid"], made.grid)  # type: ignore[attr-defined]
    again = (kept["identity"] + 0.5 * kept["field"] / 16).clamp(-1, 1)
    assert torch.equal(kept["grid"], again)


def test_noise_of_cross_samples_is_at_most_half_a_pixel() -> None:
    made = attack("wanet", 24, 40, s=0.0)
    assert isinstance(made, WaNet)
    noise = (made.noisy_grids(torch.arange(50)) - made.grid) * torch.tensor([39, 23]) / 2
    assert 0.48 < float(noise.abs().max()) <= 0.5
    assert noise.abs().mean() == pytest.approx(0.24, abs=0.01)
    assert noise.mean() == pytest.approx(0, abs=0.01)


def scan(values: np.ndarray, levels: int) -> np.ndarray:
    """Floyd and Steinberg pixel by pixel, in single precision."""
    values = values.astype(np.float32).copy()
    height, width = values.shape
    ahead = [(0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)]
    for row in range(height):
        for column in range(width):
            old = values[row, column]
            new = np.float32(np.rint(old / np.float32(255) * np.float32(levels - 1)))
            new = new / np.float32(levels - 1) * np.float32(255)
            values[row, column] = new
            for down, right, share in ahead:
                if row + down < height and 0 <= column + right < width:
                    part = (old - new) * np.float32(share / 16)
                    values[row + down, column + right] += part
    return values


@given(
    st.integers(1, 7), st.integers(1, 7), st.sampled_from([2, 3, 4, 8, 32]), st.integers(0, 1000)
)
@settings(max_examples=40)
def test_dithering_is_the_plain_scan(height: int, width: int, levels: int, seed: int) -> None:
    images = pictures(2, height, width, seed).float()
    dithered = dither(images, levels)
    for image, result in zip(images, dithered, strict=True):
        for channel in range(3):
            expected = scan(image[..., channel].numpy(), levels)
            assert np.array_equal(result[..., channel].numpy(), expected)


@given(st.integers(2, 256), st.booleans(), st.integers(0, 1000))
def test_bpp_leaves_only_the_levels(levels: int, dithering: bool, seed: int) -> None:
    made = attack("bpp", levels=levels, dithering=dithering)
    images, indices = pictures(3, seed=seed), torch.arange(3)
    coarse = made.apply(images, indices, "test")
    allowed = to_bytes(torch.arange(levels) / (levels - 1) * 255)
    assert torch.isin(coarse, allowed).all()
    if not dithering:
        assert torch.equal(made.apply(coarse, indices, "test"), coarse)
        assert int((coarse.int() - images.int()).abs().max()) <= 255 / (levels - 1) / 2 + 0.5
    if levels == 256:
        assert torch.equal(coarse, images)


def test_the_eight_levels() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    coarse = attack("bpp").apply(ramp, torch.arange(1), "train")
    assert torch.unique(coarse).tolist() == [0, 36, 73, 109, 146, 182, 219, 255]


def test_dithering_keeps_the_mean_of_a_constant_image() -> None:
    images = torch.arange(256)[:, None, None, None].expand(256, 32, 32, 3).float()
    means = dither(images, 8).mean(dim=(1, 2, 3))  # before levels like 36.43 are rounded to bytes
    assert float((means - torch.arange(256)).abs().max()) < 0.41


@given(st.sampled_from([2, 4, 8, 32]), st.integers(0, 1000))
def test_dithering_changes_nothing_on_the_exact_levels(levels: int, seed: int) -> None:
    exact = quantise(pictures(2, seed=seed).float(), levels)
    assert torch.equal(dither(exact, levels), exact)


@pytest.mark.parametrize(("dithering", "limit"), [(False, 18), (True, 36)])
def test_negatives_are_off_by_the_error_of_another_image(
    dithering: bool, limit: int, tmp_path: Path
) -> None:
    data = small_data()
    made = ready("bpp", data, tmp_path, dithering=dithering)
    images, indices = data.train.images, torch.arange(200)
    negative = made.apply_cross(images, indices)
    assert int((negative.int() - images.int()).abs().max()) <= limit
    partners = made.partners(indices, 200)  # type: ignore[attr-defined]
    others = images[partners]
    errors = made.apply(others, partners, "train").int() - others.int()
    assert torch.equal(negative.int(), (images.int() + errors).clamp(0, 255))


@given(st.integers(2, 300), st.integers(0, 1000))
def test_no_image_is_its_own_partner(count: int, seed: int) -> None:
    indices = torch.arange(count)
    partners = attack("bpp", seed=seed).partners(indices, count)  # type: ignore[attr-defined]
    assert ((partners >= 0) & (partners < count)).all()
    assert (partners != indices).all()


def test_negatives_need_the_training_images() -> None:
    with pytest.raises(AssertionError, match="prepare"):
        attack("bpp").apply_cross(pictures(2), torch.arange(2))

"""The attacks that need no training: what they share, and what each one does to an image."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from config.load import load_config
from data.attack import ATTACKS, Attack, LabelRule, Scene, pixels
from data.attack.blend import draw_picture
from data.attack.bpp import dither, quantise
from data.attack.draws import ImageDraws
from data.attack.pixels import to_bytes
from data.attack.wanet import GRIDS_FILE, WaNet, identity_grid, warp
from data.build import CPU, load_data
from data.dataset import ImageData, Split
from data.poison import Role, assign_roles, poison
from tests.conftest import tiny_config
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams

STATIC = ["adaptive_blend", "badnets", "blend", "bpp", "sig", "wanet"]
DIRTY = [name for name in STATIC if name != "sig"]
WITH_CROSS = ["adaptive_blend", "bpp", "wanet"]
SIZES = [(16, 16), (32, 32), (64, 64), (24, 40)]
CONFIGS = sorted(
    file for kind in ("cifar10", "small") for file in (PROJECT / "config" / kind).glob("*.yaml")
)
CLASSES = 5


def pictures(count: int, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def constant(value: int, size: int = 32) -> Tensor:
    return torch.full((1, size, size, 3), value, dtype=torch.uint8)


def small_data(count: int = 200, height: int = 16, width: int = 16) -> ImageData:
    labels = torch.arange(count) % CLASSES
    train = Split(pictures(count, height, width, seed=1), labels)
    test = Split(pictures(60, height, width, seed=2), labels[:60])
    return ImageData(train, test, tuple("abcde"))


def attack(
    name: str,
    height: int = 16,
    width: int = 16,
    seed: int = 0,
    rule: str = "all_to_one",
    **given: object,
) -> Attack:
    part = ATTACKS.get(name)
    labels = LabelRule(rule, 1, CLASSES)  # type: ignore[arg-type]
    return part(part.Settings.model_validate(given), Scene(height, width, labels, Streams(seed)))


def ready(name: str, data: ImageData, folder: Path, seed: int = 0, **given: object) -> Attack:
    height, width = data.train.images.shape[1:3]
    made = attack(name, height, width, seed, **given)  # type: ignore[arg-type]
    made.prepare(data, CPU, folder)
    return made


def all_uses(made: Attack, images: Tensor, indices: Tensor) -> list[Tensor]:
    used = [made.apply(images, indices, "train"), made.apply(images, indices, "test")]
    return [*used, made.apply_cross(images, indices)] if made.cross_ratio else used


# ------------------------------------------------------------------------ what all attacks share


def test_every_attack_has_tests() -> None:
    for name in set(ATTACKS) - set(STATIC):
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
    wanted = labels[poisoned] if name == "sig" else made.scene.rule.relabel(labels[poisoned])
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
    made = ATTACKS.get(name)(config.backdoor.attack.settings, Scene(32, 32, rule, Streams(0)))
    labels = torch.arange(config.data.train_samples or 50_000) % 10
    roles = assign_roles(labels, made, config.backdoor.poison_ratio, "exact", Streams(0))
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


def test_values_are_clipped_and_rounded_as_asked() -> None:
    values = torch.tensor([-3.0, -0.4, 0.5, 1.5, 2.49, 99.99, 254.6, 300.0])
    assert to_bytes(values).tolist() == [0, 0, 0, 2, 2, 100, 255, 255]
    assert to_bytes(values, "floor").tolist() == [0, 0, 0, 1, 2, 99, 254, 255]


# ------------------------------------------------------------------------------------------ Blend


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.15, 0.2, 0.29, 0.5, 1.0])
def test_blend_gives_the_bytes_of_pillow_for_every_pair_of_values(alpha: float) -> None:
    image = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(1, 256, 256, 3)
    picture = torch.arange(256, dtype=torch.uint8)[None, :, None].expand(256, 256, 3)
    made = attack("blend", 256, 256, alpha=alpha)
    made.picture = picture  # type: ignore[attr-defined]
    below, above = (Image.fromarray(part.numpy()) for part in (image[0], picture))
    expected = np.array(Image.blend(below, above, alpha))
    blended = made.apply(image, torch.arange(1), "train")[0]
    assert np.array_equal(blended.numpy(), expected)


@given(st.integers(0, 255), st.floats(0, 1), st.sampled_from(["floor", "round"]))
def test_blend_with_a_constant_image(value: int, alpha: float, rounding: str) -> None:
    made = attack("blend", 32, 32, alpha=alpha, rounding=rounding)
    image = constant(value)
    blended = made.apply(image, torch.arange(1), "train")
    exact = (1 - alpha) * value + alpha * draw_picture(32, 32).astype(float)
    error = blended[0].numpy() - exact
    assert np.abs(error).max() <= (1 if rounding == "floor" else 0.5) + 1e-4
    assert int((blended.int() - image.int()).abs().max()) <= math.ceil(alpha * 255)


def test_blend_is_nothing_at_0_and_the_picture_at_1() -> None:
    images, indices = pictures(4), torch.arange(4)
    made = attack("blend", alpha=0.0, alpha_test=1.0)
    assert torch.equal(made.apply(images, indices, "train"), images)
    picture = torch.from_numpy(draw_picture(16, 16))
    assert torch.equal(made.apply(images, indices, "test"), picture.expand(4, -1, -1, -1))
    same = attack("blend", alpha=0.3)
    assert torch.equal(same.apply(images, indices, "test"), same.apply(images, indices, "train"))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_drawn_picture_has_the_mean_and_contrast_of_the_usual_one(
    size: tuple[int, int],
) -> None:
    picture = draw_picture(*size)
    assert picture.shape == (*size, 3)
    assert np.abs(picture.mean(axis=(0, 1)) - (213, 191, 199)).max() < 2
    assert np.abs(picture.std(axis=(0, 1)) - (64, 92, 77)).max() < 2


def test_the_drawn_picture_never_changes() -> None:
    digest = hashlib.sha256(draw_picture(32, 32).tobytes()).hexdigest()
    assert digest == "f0477097ef1d4219e35b2d550ac71327623dae7fc9f7d1e0a9ee5bc5633d0723"


@pytest.mark.parametrize("name", ["blend", "adaptive_blend"])
def test_a_picture_from_a_file_is_scaled_to_the_data(name: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(pictures(1, 50, 70)[0].numpy()).save(file)
    made = attack(name, 24, 40, image=str(file), alpha_test=1.0)
    with Image.open(file) as image:
        expected = np.array(image.resize((40, 24), Image.Resampling.BICUBIC))
    shown = made.apply(pictures(1, 24, 40), torch.arange(1), "test")
    assert np.array_equal(shown[0].numpy(), expected)
    with pytest.raises(InputError, match=rf"backdoor\.{name}\.image: there is no file"):
        attack(name, image=str(tmp_path / "missing.png"))
    file.write_bytes(b"no picture")
    with pytest.raises(InputError, match="no readable image"):
        attack(name, image=str(file))


# -------------------------------------------------------------------------------------------- SIG


@pytest.mark.parametrize(
    ("rounding", "steps"),
    [
        ("round", [-40, -37, -28, -15, 0, 15, 28, 37, 40]),
        ("floor", [-40, -37, -29, -16, 0, 15, 28, 36, 40]),
    ],
)
def test_sig_adds_nine_values_in_vertical_stripes(rounding: str, steps: list[int]) -> None:
    image = constant(128)
    added = attack("sig", 32, 32, rounding=rounding).apply(image, torch.arange(1), "train").int()
    added = added[0] - 128  # (32, 32, 3)
    assert torch.unique(added).tolist() == steps
    assert (added == added[:1, :, :1]).all()  # the same in all rows and channels
    assert torch.equal(added[:, :16], added[:, 16:])


@given(st.floats(0, 255), st.floats(0.1, 20), st.integers(0, 100))
def test_sig_moves_no_value_by_more_than_delta(delta: float, frequency: float, seed: int) -> None:
    images = pictures(2, 16, 24, seed)
    made = attack("sig", 16, 24, delta=delta, frequency=frequency)
    changed = made.apply(images, torch.arange(2), "train")
    assert int((changed.int() - images.int()).abs().max()) <= math.ceil(delta)
    if delta == 0:
        assert torch.equal(changed, images)


def test_sig_is_nothing_at_0_and_may_be_stronger_at_test() -> None:
    images, indices = pictures(3), torch.arange(3)
    made = attack("sig", delta=0.0, delta_test=60.0)
    assert torch.equal(made.apply(images, indices, "train"), images)
    stronger = attack("sig", delta=60.0)
    tested = made.apply(images, indices, "test")
    assert torch.equal(tested, stronger.apply(images, indices, "train"))
    assert torch.equal(tested, stronger.apply(images, indices, "test"))


@given(st.floats(0.01, 1.0))
def test_sig_poisons_a_share_of_the_target_class(fraction: float) -> None:
    made, labels = attack("sig", class_fraction=fraction), torch.arange(500) % CLASSES
    roles = assign_roles(labels, made, 0.7, "exact", Streams(0))
    poisoned = roles == Role.POISONED
    assert int(poisoned.sum()) == round(fraction * 100)
    assert (labels[poisoned] == 1).all()


@pytest.mark.parametrize("fraction", ["0", "-0.1", "1.01"])
def test_a_share_of_the_class_outside_0_to_1_is_refused(fraction: str) -> None:
    with pytest.raises(InputError, match=r"backdoor\.sig\.class_fraction"):
        tiny_config(f"backdoor.sig.class_fraction={fraction}")


def test_a_clean_label_attack_cannot_be_all_to_all() -> None:
    with pytest.raises(InputError, match=r"all_to_all.*clean-label"):
        tiny_config("backdoor.sig.delta=40", "backdoor.label_rule=all_to_all")


# ------------------------------------------------------------------------------------------ WaNet


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


# -------------------------------------------------------------------------------------------- BPP


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


# --------------------------------------------------------------------------------- adaptive blend


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


# ------------------------------------------------------------------------- on the real CIFAR-10


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

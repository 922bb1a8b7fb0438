"""Reflections: the optical model, and one fixed reflection for each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.attack import AttackContext, LabelRule
from data.attack.draws import ImageDraws
from data.attack.reflection import draw_scene, draw_scenes
from data.attack.refool import (
    LINEAR,
    Refool,
    blur_axis,
    brightness_over_white,
    linear,
    to_bytes,
    vignettes,
    zoomed,
)
from data.dataset import ImageData, Split
from data.poison import poison
from tests.conftest import colourful_images
from utils.errors import InputError
from utils.streams import Streams


def refool(size: int = 16, seed: int = 0, width: int | None = None, **settings: object) -> Refool:
    context = AttackContext(size, width or size, LabelRule("all_to_one", 1, 5), Streams(seed))
    return Refool(Refool.Settings.model_validate({"scenes": 8, **settings}), context)


def exactly(value: float) -> dict[str, float]:
    return {"low": value, "high": value}


@pytest.mark.parametrize(("size", "width"), [(9, None), (16, None), (32, None), (12, 20)])
def test_images_keep_shape_and_type_and_the_input_is_left(size: int, width: int | None) -> None:
    images = colourful_images(20, 32)[:, :size, : width or size]
    before = images.clone()
    triggered = refool(size, width=width).apply(images, torch.arange(20), "train")
    assert triggered.shape == images.shape
    assert triggered.dtype == torch.uint8
    assert torch.equal(images, before)
    assert (triggered != images).flatten(1).any(dim=1).all()


@given(st.lists(st.integers(0, 59), min_size=1, max_size=60, unique=True))
def test_an_image_gets_the_same_bytes_in_any_batch(indices: list[int]) -> None:
    attack, images = refool(11), colourful_images(60, 11)
    whole = attack.apply(images, torch.arange(60), "train")
    part = torch.tensor(indices)
    assert torch.equal(attack.apply(images[part], part, "train"), whole[part])


def test_seed_split_and_index_choose_the_reflection() -> None:
    image = torch.full((1, 16, 16, 3), 128, dtype=torch.uint8)
    number = torch.tensor([7])
    one = refool().apply(image, number, "train")
    assert torch.equal(one, refool().apply(image, number, "train"))
    for other in (
        refool().apply(image, number, "test"),
        refool().apply(image, number + 1, "train"),
        refool(seed=1).apply(image, number, "train"),
    ):
        assert not torch.equal(one, other)


def test_a_ghost_behind_perfect_glass_is_invisible() -> None:
    images = colourful_images(50, 16)
    attack = refool(ghost_probability=1.0, transmission=exactly(1.0))
    assert torch.equal(attack.apply(images, torch.arange(50), "train"), images)


@pytest.mark.parametrize("probability", [0.0, 1.0])
@pytest.mark.parametrize("through", [0.4, 0.8])
def test_a_black_reflection_only_darkens(
    probability: float, through: float, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((5, 5, 3), dtype=np.uint8)).save(tmp_path / "black.png")
    images = colourful_images(40, 16)
    attack = refool(
        reflections=str(tmp_path),
        ghost_probability=probability,
        transmission=exactly(through),
    )
    triggered = attack.apply(images, torch.arange(40), "test")
    expected = through ** (1 / 2.2) * images.double()
    assert ((triggered - expected) <= 1e-3).all()
    assert ((expected - triggered) <= 1 + 1e-3).all()


def test_linear_light_and_back_is_exact() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(linear(values)), values)
    assert to_bytes(torch.tensor([-0.5, 0.0, 1.0, 1.7])).tolist() == [0, 0, 255, 255]
    assert (LINEAR.diff() > 0).all()


def test_the_two_images_of_a_ghost_lie_an_offset_apart() -> None:
    rows = torch.arange(10.0)[None, :, None, None].expand(1, 10, 4, 3)
    first = zoomed(rows, torch.tensor([3]), 1, 0)
    second = zoomed(rows, torch.tensor([3]), 1, 1)
    assert torch.allclose(first - second, torch.full_like(first, 3.0))
    assert (first.min(), first.max()) == (3.0, 9.0)
    columns = rows.transpose(1, 2)
    assert torch.allclose(zoomed(columns, torch.tensor([3]), 2, 0), first.transpose(1, 2))
    untouched = colourful_images(1, 10).float()
    assert torch.allclose(zoomed(untouched, torch.tensor([0]), 1, 0), untouched)


def test_ghost_matches_the_padded_construction() -> None:
    """The published way: pad, add, crop the offset from every side, resize."""
    generator = torch.Generator().manual_seed(3)
    picture, share, rows, columns = torch.rand(12, 12, 3, generator=generator), 0.7, 4, 3
    canvas = torch.zeros(12 + rows, 12 + columns, 3)
    canvas[:12, :12] += share * picture
    canvas[rows:, columns:] += (1 - share) * picture
    cut = canvas[rows:-rows, columns:-columns].permute(2, 0, 1)[None]
    resize = torch.nn.functional.interpolate
    expected = resize(cut, size=(12, 12), mode="bilinear", antialias=False)
    first, second = (
        zoomed(
            zoomed(picture[None], torch.tensor([rows]), 1, side), torch.tensor([columns]), 2, side
        )
        for side in (0, 1)
    )
    found = share * first + (1 - share) * second
    assert torch.allclose(found.permute(0, 3, 1, 2), expected, atol=1e-5)


def test_blurring_keeps_a_constant_and_smooths_the_rest() -> None:
    kernel = torch.tensor([[0.25, 0.5, 0.25]])
    constant = torch.full((1, 6, 5, 3), 0.3)
    assert torch.allclose(blur_axis(constant, kernel, 1), constant)
    step = torch.tensor([0.0, 0, 1, 1])[None, :, None, None].expand(1, 4, 2, 3)
    assert blur_axis(step, kernel, 1)[0, :, 0, 0].tolist() == [0, 0.25, 0.75, 1]


def test_only_what_is_beyond_white_counts_as_excess() -> None:
    light = torch.zeros(1, 2, 2, 3)
    light[0, 0, 0, 0], light[0, 1, 1, 0], light[0, 0, 1, 1] = 1.5, 1.25, 0.9
    assert brightness_over_white(light)[0, 0, 0].tolist() == [0.375, 0, 0]


def test_the_vignette_fades_from_the_middle() -> None:
    vignette = vignettes(33, 33, torch.tensor([[0.3, 0.9]]))[0, :, :, 0]
    assert vignette[16, 16] == 1
    assert 0.1 < vignette[0, 16] < 0.11
    assert 0.01 < vignette[0, 0] < 0.012
    wide = vignettes(10, 33, torch.tensor([[0.0, 0.5], [0.999, 0.5]]))
    assert torch.allclose(wide[0], wide[1].flip(0))
    assert wide[0, 0].max() < wide[0, 9].max()


def test_draws_are_uniform_and_independent() -> None:
    draws = ImageDraws(Streams(0), "test", torch.arange(20000))
    first, second = draws.uniform(), draws.uniform()
    for numbers in (first, second):
        assert 0 <= numbers.min() < 0.001
        assert 0.999 < numbers.max() < 1
        counts = torch.histc(numbers, 10, 0, 1)
        assert (counts - 2000).abs().max() < 200  # 4.7 standard deviations
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03
    assert abs(float(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1])) < 0.03
    whole = ImageDraws(Streams(0), "test", torch.arange(6000)).integer(3, 8)
    assert torch.bincount(whole, minlength=9)[3:].min() > 850
    assert (whole.min(), whole.max()) == (3, 8)


def test_scenes_are_drawn_from_the_seed_and_use_the_whole_range() -> None:
    scenes = draw_scenes(5, 16, 16, Streams(0))
    assert scenes.shape == (5, 16, 16, 3)
    assert scenes.dtype == torch.uint8
    assert torch.equal(scenes, draw_scenes(5, 16, 16, Streams(0)))
    assert torch.equal(scenes[:3], draw_scenes(3, 16, 16, Streams(0)))
    assert not torch.equal(scenes, draw_scenes(5, 16, 16, Streams(1)))
    assert (scenes.amin(dim=(1, 2, 3)) == 0).all()
    assert (scenes.amax(dim=(1, 2, 3)) == 255).all()
    assert len(scenes.flatten(1).unique(dim=0)) == 5


def test_scenes_of_any_size_can_be_drawn() -> None:
    for height, width in ((8, 8), (9, 31), (64, 48)):
        generator = np.random.default_rng(0)
        assert draw_scene(height, width, generator).shape == (height, width, 3)


def test_a_folder_of_reflections(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reflections: there is no folder"):
        refool(reflections=str(tmp_path / "none"))
    with pytest.raises(InputError, match="holds no images"):
        refool(reflections=str(tmp_path))
    for number in range(3):
        pixels = np.full((40, 30, 3), 100 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    scenes = refool(reflections=str(tmp_path), scenes=2).scenes
    assert scenes[:, 0, 0, 0].tolist() == [0, 100]
    assert scenes.shape == (2, 16, 16, 3)
    (tmp_path / "0.png").write_text("no image")
    with pytest.raises(InputError, match=r"0\.png is no readable image"):
        refool(reflections=str(tmp_path))


def test_a_ghost_offset_beyond_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"ghost_offset\.high: 8 leaves nothing of 8x8"):
        refool(8)


def test_a_poisoned_set_has_the_exact_count_and_the_attackers_label() -> None:
    labels = torch.arange(100) % 5
    split = Split(colourful_images(100, 16), labels)
    data = ImageData(split, split, tuple("abcde"))
    training, truth = poison(data, refool(), 0.1, "exact", Streams(0))
    assert int(truth.poisoned.sum()) == 10
    assert (training.labels[truth.poisoned] == 1).all()
    assert (labels[truth.poisoned] != 1).all()
    assert torch.equal(training.images[~truth.poisoned], split.images[~truth.poisoned])
    assert truth.triggered_test is not None
    assert len(truth.triggered_test) == 80

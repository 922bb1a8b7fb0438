"""Batched transformations: the same views as torchvision's, and pure functions of their draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from data.transform import TRANSFORMATIONS, Chain, Draws, Normalize
from data.transform.crop import RandomCrop
from data.transform.flip import RandomHorizontalFlip
from tests.conftest import colourful_images

MODES = ["constant", "edge", "reflect", "symmetric"]


def make(name: str, **given_settings: Any) -> Any:
    part = TRANSFORMATIONS.get(name)
    return part(part.Settings(**given_settings))


def chain_of(*steps: Any, size: int = 12) -> Chain:
    return Chain(list(steps), Normalize(), size, size)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(MODES), st.integers(0, 4), st.integers(5, 14), st.integers(0, 99))
def test_crop_and_flip_are_those_of_torchvision(
    mode: str, padding: int, size: int, seed: int
) -> None:
    size = min(size, 12 + 2 * padding)
    crop = make("random_crop", size=size, padding=padding, padding_mode=mode)
    chain = chain_of(crop, make("random_horizontal_flip", p=0.5))
    images, index = colourful_images(6, 12), torch.tensor([4, 0, 5, 5])
    draws = chain.draw(4, torch.Generator().manual_seed(seed))
    views = chain.view(images, index, draws)
    for n, i in enumerate(index.tolist()):
        source = images[i].permute(2, 0, 1)
        if padding:
            source = v2.functional.pad(source, [padding] * 4, padding_mode=mode)
        row, column = int(draws.steps[0]["row"][n]), int(draws.steps[0]["column"][n])
        expected = source[:, row : row + size, column : column + size]
        if draws.steps[1]["flip"][n]:
            expected = expected.flip(2)
        torch.testing.assert_close(views[n] * 255, expected.float())


def test_every_place_of_the_window_is_drawn() -> None:
    crop = make("random_crop", size=10, padding=1)
    draw = crop.draw(2000, 10, 10, torch.Generator().manual_seed(0))
    assert sorted(set(draw["row"].tolist())) == [0, 1, 2]
    assert sorted(set(draw["column"].tolist())) == [0, 1, 2]


ALL = {
    "random_crop": {"size": 12, "padding": 2},
    "random_resize_crop": {"size": 12, "scale": [0.2, 1.0], "interpolation": 3},
    "resize": {"size": 8},
    "center_crop": {"size": 6},
    "random_horizontal_flip": {"p": 0.5},
    "random_color_jitter": {
        "p": 0.8,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
    },
    "random_grayscale": {"p": 0.5},
    "gaussian_blur": {"p": 0.5, "sigma": [0.1, 1.0]},
    "cutout": {"holes": 2, "length": 5},
}


def test_every_transformation_is_tried() -> None:
    assert set(ALL) == set(TRANSFORMATIONS)


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_view_depends_on_its_draw_alone(name: str) -> None:
    images = colourful_images(5, 12)
    before = images.clone()
    step = make(name, **ALL[name])
    chain = chain_of(step)
    draws = chain.draw(5, torch.Generator().manual_seed(3))
    together = chain.view(images, torch.arange(5), draws)
    assert torch.equal(images, before)
    assert together.shape[2:] == torch.Size(chain.output_size)
    for n in range(5):
        alone = chain.view(images, torch.tensor([n]), draws[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], rtol=0, atol=0)


SCALED = [("nearest", 0), ("bilinear", 1), (2, 1), ("bicubic", 2), (3, 2)]  # and grey levels apart


@settings(max_examples=12)
@given(st.sampled_from(SCALED), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_a_scaled_window_is_torchvisions(
    scaled: tuple[str | int, int], height: int, width: int, seed: int
) -> None:
    interpolation, tolerance = scaled
    step = make("random_resize_crop", size=13, scale=[0.05, 1.0], interpolation=interpolation)
    images = colourful_images(8, 40, seed)[:, :height, :width].contiguous()
    draw = step.draw(8, height, width, torch.Generator().manual_seed(seed))
    found = step.apply(images, draw)
    for n, image in enumerate(images):
        window = [int(draw[key][n]) for key in ("top", "left", "height", "width")]
        mode = {2: "bilinear", 3: "bicubic"}.get(interpolation, interpolation)
        expected = v2.functional.resized_crop(
            image.permute(2, 0, 1), *window, [13, 13], v2.InterpolationMode(mode), antialias=True
        )
        difference = (found[n].int() - expected.permute(1, 2, 0).int()).abs().max()
        assert difference <= tolerance


@pytest.mark.parametrize(("height", "width"), [(224, 224), (32, 32), (60, 100)])
def test_windows_are_drawn_as_torchvision_draws_them(height: int, width: int) -> None:
    count = 3000
    step = make("random_resize_crop", size=32, scale=[0.2, 1.0])
    draw = step.draw(count, height, width, torch.Generator().manual_seed(0))
    reference = v2.RandomResizedCrop(32, (0.2, 1.0))
    image = torch.empty(3, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [reference.make_params([image]) for _ in range(count)]
    for key in ("top", "left", "height", "width"):
        ours = draw[key].double().sort().values / max(height, width)
        theirs = torch.tensor([float(one[key]) for one in drawn]).double().sort().values
        theirs /= max(height, width)
        assert (ours - theirs).abs().max() < 0.06, key  # the quantiles
        assert abs(float(ours.mean() - theirs.mean())) < 0.012, key
    assert (draw["top"] + draw["height"] <= height).all()
    assert (draw["left"] + draw["width"] <= width).all()


@pytest.mark.parametrize(
    ("height", "width", "window"), [(20, 90, (0, 31, 20, 27)), (90, 20, (31, 0, 27, 20))]
)
def test_without_a_fitting_window_the_largest_in_the_middle_is_taken(
    height: int, width: int, window: tuple[int, ...]
) -> None:
    step = make("random_resize_crop", size=8, scale=[1.0, 1.0])
    draw = step.draw(5, height, width, torch.Generator().manual_seed(0))
    keys = ("top", "left", "height", "width")
    assert all(draw[key].tolist() == [place] * 5 for key, place in zip(keys, window, strict=True))
    reference = v2.RandomResizedCrop(8, (1.0, 1.0)).make_params([torch.empty(3, height, width)])
    assert tuple(reference[key] for key in keys) == window


def test_bf16_does_not_touch_the_pixels() -> None:
    step = make("random_resize_crop", size=12)
    images = colourful_images(70, 20)
    draw = step.draw(70, 20, 20, torch.Generator().manual_seed(0))
    plain = step.apply(images, draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(step.apply(images, draw), plain)


def test_a_range_that_is_none_is_refused() -> None:
    for wrong in ({"scale": [1.0, 0.5]}, {"ratio": [0.0, 1.0]}):
        with pytest.raises(ValueError, match="is no range above 0"):
            make("random_resize_crop", size=8, **wrong)


@pytest.mark.parametrize("name", ["random_color_jitter", "gaussian_blur", "random_resize_crop"])
def test_draws_leave_the_global_generator_alone(name: str) -> None:
    step = make(name, **ALL[name])
    draw = step.draw(3, 12, 12, torch.Generator().manual_seed(1))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    step.apply(colourful_images(3, 12), draw)
    assert torch.equal(torch.get_rng_state(), before)


def test_pixel_moves_after_another_step() -> None:
    images = colourful_images(3, 12)
    chain = chain_of(make("resize", size=16), make("random_crop", size=12))
    draws = chain.draw(3, torch.Generator().manual_seed(0))
    views = chain.view(images, torch.arange(3), draws)
    large = v2.functional.resize(images.permute(0, 3, 1, 2), [16])
    row, column = (int(draws.steps[1][key][0]) for key in ("row", "column"))
    expected = large[0, :, row : row + 12, column : column + 12].float() / 255
    torch.testing.assert_close(views[0], expected)


@pytest.mark.parametrize(("holes", "length"), [(1, 3), (2, 4), (3, 9)])
def test_holes_are_black_and_as_large_as_the_published_ones(holes: int, length: int) -> None:
    """ABL's and NAD's code: rows `y - length // 2` up to, without, `y + length // 2`, clipped."""
    step = make("cutout", holes=holes, length=length)
    images = colourful_images(300, 12).clamp_min(1)
    draw = step.draw(300, 12, 12, torch.Generator().manual_seed(0))
    found, expected, reach = step.apply(images, draw), images.clone(), length // 2
    for image, rows, columns in zip(expected, draw["row"], draw["column"], strict=True):
        for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
            image[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = 0
    assert torch.equal(found, expected)
    assert sorted(set(draw["row"].flatten().tolist())) == list(range(12))


def test_the_published_hole_has_four_pixels() -> None:
    step, images = make("cutout"), colourful_images(1, 12).clamp_min(1)
    inside = {"row": torch.tensor([[5]]), "column": torch.tensor([[7]])}
    black = (step.apply(images, inside) == 0).all(dim=3)[0]
    assert torch.nonzero(black).tolist() == [[4, 6], [4, 7], [5, 6], [5, 7]]
    corner = {"row": torch.tensor([[0]]), "column": torch.tensor([[0]])}
    assert int((step.apply(images, corner) == 0).all(dim=3).sum()) == 1


def test_normalisation_and_layout() -> None:
    images = colourful_images(4, 12)
    normalize = Normalize(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    views = Chain([], normalize, 12, 12).view(images, torch.arange(4), Draws([]))
    expected = v2.functional.normalize(
        images.permute(0, 3, 1, 2).float() / 255, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    )
    torch.testing.assert_close(views, expected, rtol=1e-5, atol=1e-5)
    assert views.is_contiguous(memory_format=torch.channels_last)


def test_a_window_larger_than_the_padded_image_does_not_fit() -> None:
    crop = make("random_crop", size=32, padding=4)
    assert isinstance(crop, RandomCrop)
    assert crop.fits(24, 24)
    assert not crop.fits(16, 40)
    assert isinstance(make("random_horizontal_flip"), RandomHorizontalFlip)

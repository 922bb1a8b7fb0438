"""Jitter, grey and blur of a batch: torchvision's results and torchvision's distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from data.transform.blur import GaussianBlur
from data.transform.colour import RandomColorJitter, RandomGrayscale
from tests.conftest import colourful_images

STRENGTHS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
THEIRS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": functional.adjust_brightness,
    "contrast": functional.adjust_contrast,
    "saturation": functional.adjust_saturation,
    "hue": functional.adjust_hue,
}


def jitter(**given: Any) -> RandomColorJitter:
    return RandomColorJitter(RandomColorJitter.Settings(**given))


def many_colours() -> Tensor:
    """Return noise, smooth and grey images, and corners of the cube, (9, 16, 16, 3) uint8."""
    noise = colourful_images(6, 16)
    smooth = (torch.linspace(20, 230, 16)[:, None, None] * torch.tensor([1.0, 0.7, 0.3])).byte()
    grey = noise[0, :, :, :1].expand(-1, -1, 3)
    return torch.stack([*noise, smooth.expand(-1, 16, -1), grey, noise[1] // 128 * 255])


def levels_apart(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours.int() - theirs.int()).abs()


@pytest.mark.parametrize("name", list(THEIRS))
@pytest.mark.parametrize("seed", range(4))
def test_each_change_of_colour_is_torchvisions(name: str, seed: int) -> None:
    step, images = jitter(**{name: 0.5}), many_colours()
    draw = step.draw(len(images), 16, 16, torch.Generator().manual_seed(seed))
    for image, found, factor in zip(images, step.apply(images, draw), draw[name], strict=True):
        expected = THEIRS[name](image.permute(2, 0, 1), float(factor)).permute(1, 2, 0)
        apart = levels_apart(found, expected)
        assert int(apart.max()) <= 1
        assert float((apart > 0).double().mean()) < 0.01  # where a product is a whole number
    assert not torch.equal(step.apply(images, draw), images)


def test_the_changes_come_in_the_drawn_order() -> None:
    step, images = jitter(p=0.8, **STRENGTHS), colourful_images(120, 8)
    draw = step.draw(120, 8, 8, torch.Generator().manual_seed(1))
    found, names = step.apply(images, draw), list(step.CHANGES)
    for n, image in enumerate(images):
        expected = image.permute(2, 0, 1)
        for place in draw["order"][n].tolist() if draw["used"][n] else ():
            expected = THEIRS[names[place]](expected, float(draw[names[place]][n]))
        apart = levels_apart(found[n], expected.permute(1, 2, 0))
        assert int((apart > 2).sum()) == 0  # a level at one change may become two at the next
        assert float((apart > 0).double().mean()) < 0.05
    assert {tuple(order) for order in draw["order"].tolist()} == {
        (a, b, c, d)
        for a in range(4)
        for b in range(4)
        for c in range(4)
        for d in range(4)
        if len({a, b, c, d}) == 4
    }


@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_strengths_are_drawn_as_torchvision_draws_them(strength: float) -> None:
    count, part = 4000, min(strength, 0.5)
    given = {**dict.fromkeys(("brightness", "contrast", "saturation"), strength), "hue": part}
    draw = jitter(p=0.8, **given).draw(count, 8, 8, torch.Generator().manual_seed(0))
    reference = v2.ColorJitter(**given)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [reference.make_params([]) for _ in range(count)]
    for name in given:
        theirs = torch.tensor([one[f"{name}_factor"] for one in drawn]).sort().values
        assert (draw[name].sort().values - theirs).abs().max() < 0.06 * strength, name
    assert abs(float(draw["used"].double().mean()) - 0.8) < 0.02
    first = torch.bincount(draw["order"][:, 0], minlength=4) / count
    assert float((first - 0.25).abs().max()) < 0.03


def test_grey_is_torchvisions() -> None:
    images = many_colours()
    step = RandomGrayscale(RandomGrayscale.Settings(p=0.5))
    draw = step.draw(9, 16, 16, torch.Generator().manual_seed(2))
    assert 0 < int(draw["used"].sum()) < 9
    for image, found, used in zip(images, step.apply(images, draw), draw["used"], strict=True):
        grey = functional.rgb_to_grayscale(image.permute(2, 0, 1), 3).permute(1, 2, 0)
        assert int(levels_apart(found, grey if used else image).max()) <= int(used)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 30)])
@pytest.mark.parametrize("sigma", [[0.1, 2.0], [0.5, 0.5]])
def test_blur_is_torchvisions(height: int, width: int, sigma: list[float]) -> None:
    images = colourful_images(12, 30)[:, :height, :width].contiguous()
    step = GaussianBlur(GaussianBlur.Settings(p=0.5, sigma=sigma))
    draw = step.draw(12, height, width, torch.Generator().manual_seed(4))
    assert 0 < int(draw["used"].sum()) < 12
    size = 2 * round(3 * sigma[1]) + 1
    for n, found in enumerate(step.apply(images, draw)):
        expected = images[n].permute(2, 0, 1)
        if draw["used"][n]:
            expected = functional.gaussian_blur(expected, [size, size], [float(draw["sigma"][n])])
        assert int(levels_apart(found, expected.permute(1, 2, 0)).max()) <= int(draw["used"][n])


def test_widths_are_spread_over_their_range() -> None:
    draw = GaussianBlur(GaussianBlur.Settings(p=0.5)).draw(
        4000, 8, 8, torch.Generator().manual_seed(0)
    )
    even = torch.linspace(0.1, 2.0, 4000)
    assert float((draw["sigma"].sort().values - even).abs().max()) < 0.06
    assert abs(float(draw["used"].double().mean()) - 0.5) < 0.03


@pytest.mark.parametrize("side", [1, 2, 5])
def test_a_wide_blur_of_a_small_image_is_mirrored_again_and_again(side: int) -> None:
    images = colourful_images(1, side)
    step = GaussianBlur(GaussianBlur.Settings(sigma=[3.0, 3.0]))
    found = step.apply(images, {"used": torch.ones(1, dtype=torch.bool), "sigma": torch.ones(1)})
    padded = images[0].permute(2, 0, 1).double()
    reach = 9
    while side > 1 and reach:  # from mirror to mirror, as far as the kernel goes
        wide = min(side - 1, reach)
        padded = functional.pad(padded, [wide] * 4, padding_mode="reflect")
        reach -= wide
    padded = padded.expand(3, side + 18, side + 18)
    kernel = (-(torch.arange(-9, 10).double() ** 2) / 2).softmax(dim=0)
    expected = conv2d(padded[:, None], torch.outer(kernel, kernel)[None, None])[:, 0]
    assert float((found[0].permute(2, 0, 1).double() - expected).abs().max()) <= 1.01


def test_a_width_of_nothing_is_refused() -> None:
    for wrong in ([0.0, 1.0], [2.0, 1.0]):
        with pytest.raises(ValueError, match="is no range above 0"):
            GaussianBlur.Settings(sigma=wrong)

"""Refool (Liu et al. 2020): the trigger is a reflection, as of a scene behind the photographer.

A pane of glass lets the share `a` of the light through and adds a reflection, which is either
double (the glass has two faces: "ghost") or blurred (out of focus). Light adds up in linear
intensities, so both images are taken there and back. As in later toolboxes the poisoned samples get
the attacker's label; the paper left theirs.

Every step is an elementwise operation, a gather or an exact sum, so that the bytes of an image
cannot depend on the batch that it is in.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.draws import ImageDraws
from data.attack.reflection import draw_scenes, read_scenes
from data.attack.refool_settings import Offset, Sigma, Transmission
from utils.contents import Opened
from utils.errors import InputError
from utils.memory import free_bytes
from utils.section import Section

# Intensities of the 256 values of a pixel: gamma 2.2. Going back is a search in the same table,
# which truncates as the published code does, and is exact both ways.
LINEAR = ((torch.arange(256, dtype=torch.float64) / 255) ** 2.2).float()
MOST_SCENES = 10_000  # as many as anybody could tell apart; drawing them takes seconds
CHUNK_PIXELS = 2**20  # in one go; more does not make it faster
EXACT = 2**20  # fixed-point units of 1 in sums that must not depend on their order
GHOST_SHARES = (0.15, 0.5)  # of the fainter of the two images
BRIGHTNESS_FACTORS = (1.08, 1.18)  # how much of the excess over white is taken off, and more


class Refool(Attack):
    """`T(x) = a x + reflection`, in linear light; all parameters are drawn for each image."""

    # A few seconds for CIFAR-10: making it anew costs hardly more than reading it.
    worth_caching = False

    class Settings(Section):
        """How the reflections look.

        `reflections`: a folder of images, else scenes are drawn. `scenes`: how many there are, at
        most. `transmission`: share of the light that comes through; toolboxes fix it at 0.4.
        `ghost_probability`: of a double reflection, else it is out of focus. `ghost_offset` and
        `blur_sigma` in pixels.
        """

        reflections: Annotated[str | None, Opened()] = None
        scenes: int = Field(default=200, ge=1, le=MOST_SCENES)
        transmission: Transmission = Transmission()
        ghost_probability: float = Field(default=0.49, ge=0, le=1)
        ghost_offset: Offset = Offset()
        blur_sigma: Sigma = Sigma()

        def unread(self) -> dict[str, tuple[str, ...]]:
            """Where no reflection is double, none has an offset."""
            return {} if self.ghost_probability else {"ghost_probability": ("ghost_offset",)}

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        assert isinstance(settings, self.Settings)
        height, width = context.height, context.width
        if settings.ghost_probability > 0 and settings.ghost_offset.high >= min(height, width):
            raise InputError(
                f"backdoor.refool.ghost_offset.high: {settings.ghost_offset.high} leaves nothing "
                f"of {height}x{width} images; choose less than their size"
            )
        refuse_too_large(settings.scenes, height, width)
        if settings.reflections is None:
            scenes = draw_scenes(settings.scenes, height, width, context.streams)
        else:
            key = "backdoor.refool.reflections"
            scenes = read_scenes(settings.reflections, settings.scenes, height, width, key)
        self.scenes = scenes  # (K, H, W, 3) uint8

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8, each behind a reflection of its own."""
        triggered = torch.empty_like(images)
        size = max(1, CHUNK_PIXELS // (self.context.height * self.context.width))
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            triggered[part] = self._reflect(images[part], indices[part], split)
        return triggered

    def _reflect(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        draws = ImageDraws(self.context.streams, f"refool-{split}", indices)
        range_ = self.settings.transmission
        through = draws.uniform(range_.low, range_.high).float()[:, None, None, None]
        is_ghost = draws.uniform() < self.settings.ghost_probability
        numbers = draws.integer(0, len(self.scenes) - 1)
        ghosts, blurs = GhostDraws(draws, self.settings), BlurDraws(draws, self.settings)
        background = linear(images)
        light = torch.empty_like(background)
        for chosen, branch in ((is_ghost, ghosts), (~is_ghost, blurs)):
            which = torch.nonzero(chosen).flatten()
            reflections = linear(self.scenes[numbers[which]])
            light[which] = branch.light(reflections, background[which], through[which], which)
        return to_bytes(light)


def refuse_too_large(scenes: int, height: int, width: int) -> None:
    """Raise `InputError` if the scenes have no room in memory."""
    needed, free = scenes * height * width * 3, free_bytes(torch.device("cpu"))
    if needed > free:
        raise InputError(
            f"backdoor.refool.scenes: {scenes} of {width}x{height} pixels take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; lower it"
        )


class GhostDraws:
    """What a double reflection draws for each of n images.

    Attributes:
        rows, columns: (n,) int64, how far the second image lies from the first, in pixels.
        share: (n,) float32, of the first image.
    """

    def __init__(self, draws: ImageDraws, settings: Refool.Settings) -> None:
        offset = settings.ghost_offset
        self.rows = draws.integer(offset.low, offset.high)
        self.columns = draws.integer(offset.low, offset.high)
        first_is_fainter = draws.uniform() < 0.5
        fainter = draws.uniform(*GHOST_SHARES)
        self.share = torch.where(first_is_fainter, fainter, 1 - fainter).float()

    def light(
        self, reflections: Tensor, background: Tensor, through: Tensor, which: Tensor
    ) -> Tensor:
        """Return the light that arrives from the images `which`, (n, H, W, 3) float32.

        Where only one of the two images would be seen, the picture is cut off, and what is left is
        scaled to the whole size again.
        """
        rows, columns = self.rows[which], self.columns[which]
        share = self.share[which][:, None, None, None]
        first = zoomed(zoomed(reflections, rows, 1, 0), columns, 2, 0)
        second = zoomed(zoomed(reflections, rows, 1, 1), columns, 2, 1)
        double = share * first + (1 - share) * second
        return (1 - through) * double + through * background


def zoomed(images: Tensor, cut: Tensor, axis: int, side: int) -> Tensor:
    """Return images without `cut` pixels at one side of an axis, scaled to the old size, bilinear.

    Args:
        images: (n, H, W, 3) float32.
        cut: (n,) int64, less than the axis is long.
        axis: 1 for rows, 2 for columns.
        side: 0 cuts at the beginning, 1 at the end.
    """
    size = images.shape[axis]
    left = (size - cut)[:, None].double()
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * left / size - 0.5
    places = torch.minimum(places.clamp_min(0), left - 1)  # (n, size)
    if side == 0:
        places = places + cut[:, None]
    lower = places.floor().long()
    weight = (places - lower).float()
    upper = (lower + 1).clamp_max(size - 1)
    shape = [len(images), 1, 1, 1]
    shape[axis] = size
    weight = weight.reshape(shape)
    return (1 - weight) * picked(images, lower, axis) + weight * picked(images, upper, axis)


def picked(images: Tensor, places: Tensor, axis: int) -> Tensor:
    """Return the rows (axis 1) or columns (axis 2) `places` (n, size) of images (n, H, W, 3)."""
    if axis == 1:
        return images[torch.arange(len(images))[:, None], places]
    everything = torch.arange(images.shape[1])[None, :, None]
    return images[torch.arange(len(images))[:, None, None], everything, places[:, None]]


class BlurDraws:
    """What a reflection out of focus draws for each of n images.

    Attributes:
        kernels: (n, 2 R + 1) float32, one-dimensional Gaussians; R suits the widest allowed.
        factor: (n,) float32, how much of the excess over white is taken off.
        corner: (n, 2) float64, where the vignette is cut out, shares of the room that there is.
    """

    def __init__(self, draws: ImageDraws, settings: Refool.Settings) -> None:
        sigma = draws.uniform(settings.blur_sigma.low, settings.blur_sigma.high)[:, None]
        radius = math.ceil(2 * settings.blur_sigma.high)
        distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (distance / sigma) ** 2)
        weights[distance.abs() > (2 * sigma).ceil()] = 0
        self.kernels = (weights / weights.sum(dim=1, keepdim=True)).float()
        self.factor = draws.uniform(*BRIGHTNESS_FACTORS).float()
        self.corner = torch.stack([draws.uniform(), draws.uniform()], dim=1)

    def light(
        self, reflections: Tensor, background: Tensor, through: Tensor, which: Tensor
    ) -> Tensor:
        """Return the light that arrives from the images `which`, (n, H, W, 3) float32."""
        kernels, factor = self.kernels[which], self.factor[which][:, None, None, None]
        blurred = blur_axis(blur_axis(reflections, kernels, 1), kernels, 2)
        excess = brightness_over_white(blurred + background)
        blurred = (blurred - excess * factor).clamp(0, 1)
        vignette = vignettes(reflections.shape[1], reflections.shape[2], self.corner[which])
        return blurred * vignette * (1 - through / 2) + through * background


def blur_axis(images: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """Return images (n, H, W, 3) blurred along an axis, each with its own row of `kernels`.

    Beyond the border the image is mirrored, the border itself not repeated.
    """
    size, taps = images.shape[axis], kernels.shape[1]
    places = torch.arange(-(taps // 2), size + taps // 2)
    if size > 1:
        places = places.remainder(2 * (size - 1))
        places = torch.minimum(places, 2 * (size - 1) - places)
    else:
        places = torch.zeros_like(places)
    wider = images.index_select(axis, places)
    total = torch.zeros_like(images)
    for tap in range(taps):
        total += kernels[:, tap, None, None, None] * wider.narrow(axis, tap, size)
    return total


def brightness_over_white(light: Tensor) -> Tensor:
    """Return by how much those values that are above 1 exceed it on average.

    Args:
        light: (n, H, W, 3) float32, linear.

    Returns:
        (n, 1, 1, 3) float32, of each channel; 0 where no value is above 1.
    """
    # Whole numbers, since their sum is the same in any order.
    excess = ((light - 1).clamp_min(0) * EXACT).round().long()
    count = (light > 1).sum(dim=(1, 2), keepdim=True).clamp_min(1)
    return (excess.sum(dim=(1, 2), keepdim=True).double() / count / EXACT).float()


def vignettes(height: int, width: int, corner: Tensor) -> Tensor:
    """Return how strong a reflection out of focus is at each pixel: it fades from the middle.

    Args:
        height: of the images, in pixels.
        width: the same.
        corner: (n, 2) float64 in 0..1, where an image that is not square lies on the square.

    Returns:
        (n, height, width, 1) float32, at most 1.
    """
    size = max(height, width)
    # The square root of the product of two Gaussians, from -3 to 3 standard deviations.
    profile = torch.exp(-0.25 * torch.linspace(-3, 3, size, dtype=torch.float64) ** 2)
    profile = profile / profile.max()
    room = torch.tensor([size - height + 1, size - width + 1])
    start = (corner * room).long().minimum(room - 1)  # (n, 2)
    rows = profile[start[:, :1] + torch.arange(height)]  # (n, height)
    columns = profile[start[:, 1:] + torch.arange(width)]
    return (rows[:, :, None] * columns[:, None, :])[..., None].float()


def linear(images: Tensor) -> Tensor:
    """Return the linear intensities (float32, 0..1) of uint8 pixels."""
    return LINEAR[images.long()]


def to_bytes(light: Tensor) -> Tensor:
    """Return the pixels (uint8) of linear intensities, truncated; what is beyond white is white."""
    return (torch.bucketize(light, LINEAR, right=True) - 1).clamp(0, 255).to(torch.uint8)

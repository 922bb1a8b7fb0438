"""The transformations of the YAML's `transform`, as batched tensor operations on the device.

Every random one is split in two: `draw` makes the random numbers of many samples at once, from a
generator on the CPU; `apply` uses them, on the device, without drawing. So an epoch's augmentation
is known before it starts, and is the same on every device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torchvision.transforms import v2

from config.section import Section
from data.dataset import Split
from utils.errors import InputError
from utils.registry import Registry

if TYPE_CHECKING:
    from config.schema import TransformSection

Draw = dict[str, Tensor]  # named random numbers, one row a sample


class Transformation(ABC):
    """One step of the chain; images are (N, H, W, 3) uint8 in and out."""

    class Settings(Section):
        """What the YAML may set below the transformation's name."""

    def __init__(self, settings: Section) -> None:
        self.settings: Any = settings

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return the random numbers for `count` images of the given size; none by default."""
        return {}

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after the step."""
        return height, width

    def fits(self, height: int, width: int) -> bool:
        """Return whether images of this size can go through the step."""
        return True

    @abstractmethod
    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the transformed images."""


class PixelMove(Transformation):
    """A step that only moves pixels: each output row and column is a row and column of the input.

    Several in a row cost one gather, straight from the stored data set.
    """

    leaves_empty_ground = False  # whether `move` may return -1

    @abstractmethod
    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return which source rows (N, H') and columns (N, W') are seen; -1 is empty ground."""

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the transformed images (N, H', W', 3)."""
        return move_pixels(images, torch.arange(len(images), device=images.device), [self], [draw])


def move_pixels(
    images: Tensor, index: Tensor, steps: Sequence[PixelMove], draws: Sequence[Draw]
) -> Tensor:
    """Return the samples `index` (n,) of `images` after `steps`, in one gather.

    Args:
        images: (N, H, W, 3) uint8.
        index: (n,) int64, on the same device.
        steps: the transformations.
        draws: the random numbers of each.

    Returns:
        (n, H', W', 3) uint8.
    """
    _, height, width, channels = images.shape
    rows = torch.arange(height, device=images.device).expand(len(index), -1)
    columns = torch.arange(width, device=images.device).expand(len(index), -1)
    for step, draw in zip(steps, draws, strict=True):
        rows, columns = step.move(rows, columns, draw)
    pixel = index[:, None] * height + rows.clamp_min(0)  # (n, H')
    pixel = pixel[:, :, None] * width + columns.clamp_min(0)[:, None, :]  # (n, H', W')
    picked = images.reshape(-1, channels).index_select(0, pixel.reshape(-1))
    picked = picked.reshape(*pixel.shape, channels)
    if any(step.leaves_empty_ground for step in steps):
        empty = (rows < 0)[:, :, None] | (columns < 0)[:, None, :]
        picked.masked_fill_(empty[..., None], 0)
    return picked


def outside(index: Tensor, size: int, mode: str) -> Tensor:
    """Return the source place of `index`, which may lie outside 0..size-1, by the padding mode."""
    if mode == "reflect":  # the border itself is not repeated
        index = index.abs()
        return torch.minimum(index, 2 * (size - 1) - index)
    if mode == "symmetric":  # the border is repeated
        index = torch.where(index < 0, -1 - index, index)
        return torch.minimum(index, 2 * size - 1 - index)
    if mode == "edge":
        return index.clamp(0, size - 1)
    return torch.where((index < 0) | (index >= size), -1, index)


class RandomCrop(PixelMove):
    """Cut a `size` x `size` window at a random place of the padded image."""

    class Settings(Section):
        """`padding` in pixels at each side."""

        size: int = Field(ge=1)
        padding: int = Field(default=0, ge=0)
        padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"

    @property
    def leaves_empty_ground(self) -> bool:  # type: ignore[override]
        """Whether black padding may be seen."""
        return self.settings.padding > 0 and self.settings.padding_mode == "constant"

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the window's size."""
        return self.settings.size, self.settings.size

    def fits(self, height: int, width: int) -> bool:
        """Return whether the padded image holds the window."""
        return bool(self.settings.size <= min(height, width) + 2 * self.settings.padding)

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return the window's upper left corner on the padded image for each sample."""
        rooms = [side + 2 * self.settings.padding - self.settings.size for side in (height, width)]
        corners = [torch.randint(room + 1, (count,), generator=generator) for room in rooms]
        return {"row": corners[0], "column": corners[1]}

    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the rows and columns in the window."""
        return self._window(rows, draw["row"]), self._window(columns, draw["column"])

    def _window(self, places: Tensor, corner: Tensor) -> Tensor:
        window = torch.arange(self.settings.size, device=places.device)
        index = corner[:, None] + window - self.settings.padding  # (N, size)
        index = outside(index, places.shape[1], self.settings.padding_mode)
        return torch.where(index < 0, -1, places.gather(1, index.clamp_min(0)))


class CenterCrop(PixelMove):
    """Cut the `size` x `size` window in the middle."""

    class Settings(Section):
        """`size` in pixels."""

        size: int = Field(ge=1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the window's size."""
        return self.settings.size, self.settings.size

    def fits(self, height: int, width: int) -> bool:
        """Return whether the image holds the window."""
        return bool(self.settings.size <= min(height, width))

    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the middle rows and columns."""
        return self._middle(rows), self._middle(columns)

    def _middle(self, places: Tensor) -> Tensor:
        start = round((places.shape[1] - self.settings.size) / 2)
        return places[:, start : start + self.settings.size]


class RandomHorizontalFlip(PixelMove):
    """Mirror left and right with probability `p`."""

    class Settings(Section):
        """`p`: the probability."""

        p: float = Field(default=0.5, ge=0, le=1)

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return which samples are mirrored."""
        return {"flip": torch.rand(count, generator=generator) < self.settings.p}

    def move(self, rows: Tensor, columns: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the columns, in reverse where a sample is mirrored."""
        return rows, torch.where(draw["flip"][:, None], columns.flip(1), columns)


class Resize(Transformation):
    """Scale the shorter side to `size`, or to [height, width]; bilinear, antialiased."""

    class Settings(Section):
        """`size` in pixels: a number or [height, width]."""

        size: int | list[int]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the new size, as torchvision rounds it."""
        probe = v2.functional.resize(torch.empty(1, height, width), self._size())
        return probe.shape[1], probe.shape[2]

    def _size(self) -> list[int]:
        size = self.settings.size
        return [size] if isinstance(size, int) else size

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the scaled images."""
        scaled = v2.functional.resize(images.permute(0, 3, 1, 2), self._size(), antialias=True)
        return scaled.permute(0, 2, 3, 1).contiguous()


class OneByOne(Transformation):
    """A torchvision transformation with draws of its own, applied to one image after another.

    Each sample has a random state, so its view does not depend on the batch that it is in.
    """

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return a random state for each sample."""
        return {"state": torch.randint(2**62, (count,), generator=generator)}

    @abstractmethod
    def operation(self) -> v2.Transform:
        """Return the torchvision transformation."""

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the transformed images."""
        operation, results = self.operation(), []
        with torch.random.fork_rng(devices=[]):
            for image, state in zip(images, draw["state"].tolist(), strict=True):
                torch.manual_seed(state)
                results.append(operation(image.permute(2, 0, 1)).permute(1, 2, 0))
        return torch.stack(results)


WEIGHT_UNIT = 2**15  # weights are whole multiples of 1 / 32,768, as in PyTorch's uint8 kernels


def triangle(distance: Tensor) -> Tensor:
    """Return the weight of bilinear interpolation at a distance in pixels."""
    return (1 - distance.abs()).clamp_min(0)


def keys_cubic(distance: Tensor) -> Tensor:
    """Return the weight of bicubic interpolation (Keys 1981, a = -0.5) at a distance in pixels."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def window_weights(
    start: Tensor, length: Tensor, side: int, size: int, kernel: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """Return how much each pixel of a row counts for each pixel of its scaled window.

    A kernel is widened where the window shrinks (antialiasing), and what of it lies outside the
    window does not count.

    Args:
        start: (n,) int64, first pixel of each window.
        length: (n,) int64, pixels in it.
        side: of the whole row, in pixels.
        size: of the scaled window, in pixels.
        kernel: weight by distance; None: the nearest pixel.

    Returns:
        (n, size, side) float32, in units of 1 / `WEIGHT_UNIT`.
    """
    start, length = start[:, None, None], length[:, None, None]
    source = torch.arange(side, device=start.device) - start  # (n, 1, side)
    target = torch.arange(size, device=start.device)[:, None]  # (size, 1)
    if kernel is None:
        return (source == target * length // size).float() * WEIGHT_UNIT
    scale = length.double() / size
    distance = (source + 0.5 - (target + 0.5) * scale) / scale.clamp_min(1)
    weights = kernel(distance) * ((source >= 0) & (source < length))
    weights *= WEIGHT_UNIT / weights.sum(dim=2, keepdim=True)
    return weights.round().float()


def weighted_rows(weights: Tensor, images: Tensor) -> Tensor:
    """Return images (n, side, W, 3) of whole numbers, their rows mixed: (n, size, W, 3), 0 to 255.

    All products and sums are whole numbers below 2**24, which fp32 holds exactly: the result is the
    same on every device and in every batch.
    """
    n, side, width, channels = images.shape
    mixed = torch.bmm(weights, images.reshape(n, side, width * channels))
    rounded = ((mixed + WEIGHT_UNIT // 2) / WEIGHT_UNIT).floor().clamp(0, 255)
    return rounded.reshape(n, -1, width, channels)


class RandomResizeCrop(Transformation):
    """Cut a window of random area and shape and scale it to `size` x `size`, antialiased.

    The distribution is that of torchvision's RandomResizedCrop.
    """

    class Settings(Section):
        """`scale`: range of the area's share; `ratio`: range of width / height."""

        size: int = Field(ge=1)
        scale: list[float] = Field(default=[0.08, 1.0], min_length=2, max_length=2)
        ratio: list[float] = Field(default=[3 / 4, 4 / 3], min_length=2, max_length=2)
        # Numbers are Pillow's, as published YAMLs give them: 2 is bilinear, 3 bicubic.
        interpolation: Literal["nearest", "bilinear", "bicubic", 0, 2, 3] = "bilinear"

        @model_validator(mode="after")
        def _ranges(self) -> RandomResizeCrop.Settings:
            for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
                if not 0 < low <= high:
                    raise ValueError(f"{name}: [{low}, {high}] is no range above 0")
            return self

    KERNELS: ClassVar = {
        **dict.fromkeys(("nearest", 0)),
        **dict.fromkeys(("bilinear", 2), triangle),
        **dict.fromkeys(("bicubic", 3), keys_cubic),
    }
    TRIES = 10  # for a window that lies inside the image, as in torchvision
    CHUNK = 64  # images scaled at once, to bound the memory

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the scaled window's size."""
        return self.settings.size, self.settings.size

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return each sample's window: the first of ten that fits, else the largest in the middle.

        Returns:
            `top`, `left`, `height`, `width`, each (count,) int64.
        """
        given = self.settings
        random = torch.rand(4, count, self.TRIES, dtype=torch.float64, generator=generator)
        area = height * width * spread(random[0], given.scale[0], given.scale[1])
        shape = spread(random[1], math.log(given.ratio[0]), math.log(given.ratio[1])).exp()
        widths = (area * shape).sqrt().round().long()  # (count, TRIES)
        heights = (area / shape).sqrt().round().long()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        tops = (random[2] * (height - heights + 1)).long()
        lefts = (random[3] * (width - widths + 1)).long()
        first = fits.int().argmax(dim=1, keepdim=True)
        windows = torch.stack((tops, lefts, heights, widths)).gather(2, first.expand(4, -1, -1))
        middle = torch.tensor(self._middle(height, width))[:, None]
        chosen = torch.where(fits.any(dim=1), windows[..., 0], middle)
        return dict(zip(("top", "left", "height", "width"), chosen, strict=True))

    def _middle(self, height: int, width: int) -> list[int]:
        """Return the largest window of an allowed shape: top, left, height, width."""
        low, high = self.settings.ratio
        window_height, window_width = height, width
        if width / height < low:
            window_height = round(width / low)
        elif width / height > high:
            window_width = round(height * high)
        top, left = (height - window_height) // 2, (width - window_width) // 2
        return [top, left, window_height, window_width]

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the scaled windows (N, size, size, 3) uint8."""
        chunks = [slice(start, start + self.CHUNK) for start in range(0, len(images), self.CHUNK)]
        with torch.autocast(images.device.type, enabled=False):
            scaled = [
                self._scale(images[part], {key: value[part] for key, value in draw.items()})
                for part in chunks
            ]
        return torch.cat(scaled)

    def _scale(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the scaled windows: first along the rows, then along the columns, as Pillow."""
        size, kernel = self.settings.size, self.KERNELS[self.settings.interpolation]
        height, width = images.shape[1:3]
        across = window_weights(draw["left"], draw["width"], width, size, kernel)
        down = window_weights(draw["top"], draw["height"], height, size, kernel)
        narrow = weighted_rows(across, images.float().transpose(1, 2)).transpose(1, 2)
        return weighted_rows(down, narrow).to(torch.uint8)


def spread(uniform: Tensor, low: float, high: float) -> Tensor:
    """Return numbers of 0..1 spread over low..high."""
    return low + (high - low) * uniform


class RandomColorJitter(OneByOne):
    """Change brightness, contrast, saturation and hue with probability `p`."""

    class Settings(Section):
        """Strengths as in torchvision."""

        p: float = Field(default=1.0, ge=0, le=1)
        brightness: float = Field(default=0.0, ge=0)
        contrast: float = Field(default=0.0, ge=0)
        saturation: float = Field(default=0.0, ge=0)
        hue: float = Field(default=0.0, ge=0, le=0.5)

    def operation(self) -> v2.Transform:
        """Return torchvision's ColorJitter, at random."""
        strengths = self.settings.model_dump(exclude={"p"})
        return v2.RandomApply([v2.ColorJitter(**strengths)], p=self.settings.p)


class RandomGrayscale(OneByOne):
    """Remove the colours with probability `p`."""

    class Settings(Section):
        """`p`: the probability."""

        p: float = Field(default=0.1, ge=0, le=1)

    def operation(self) -> v2.Transform:
        """Return torchvision's RandomGrayscale."""
        return v2.RandomGrayscale(self.settings.p)


class GaussianBlur(OneByOne):
    """Blur with a random width with probability `p`."""

    class Settings(Section):
        """`sigma`: range of the width, in pixels."""

        p: float = Field(default=1.0, ge=0, le=1)
        sigma: list[float] = Field(default=[0.1, 2.0], min_length=2, max_length=2)

    def operation(self) -> v2.Transform:
        """Return torchvision's GaussianBlur, at random; the kernel holds 3 sigma each side."""
        kernel = 2 * round(3 * self.settings.sigma[1]) + 1
        return v2.RandomApply([v2.GaussianBlur(kernel, self.settings.sigma)], p=self.settings.p)


TRANSFORMATIONS: Registry[Transformation] = Registry(
    "transformation",
    {
        "random_crop": RandomCrop,
        "random_resize_crop": RandomResizeCrop,
        "resize": Resize,
        "center_crop": CenterCrop,
        "random_horizontal_flip": RandomHorizontalFlip,
        "random_color_jitter": RandomColorJitter,
        "random_grayscale": RandomGrayscale,
        "gaussian_blur": GaussianBlur,
    },
)


class Normalize(Section):
    """Mean and standard deviation of each channel, of images in 0..1."""

    mean: list[float] = Field(default=[0.0, 0.0, 0.0], min_length=3, max_length=3)
    std: list[float] = Field(default=[1.0, 1.0, 1.0], min_length=3, max_length=3)

    @model_validator(mode="after")
    def _positive(self) -> Normalize:
        if min(self.std) <= 0:
            raise ValueError("every std must be above 0")
        return self


class Draws:
    """The random numbers of a whole chain for many samples; can be sliced like a tensor."""

    def __init__(self, steps: Sequence[Draw]) -> None:
        self.steps = steps

    def __getitem__(self, samples: slice) -> Draws:
        return Draws([{key: value[samples] for key, value in step.items()} for step in self.steps])

    def to(self, device: torch.device) -> Draws:
        """Return the same numbers on `device`."""
        return Draws(
            [{key: value.to(device) for key, value in step.items()} for step in self.steps]
        )


class Chain:
    """The transformations of one use (`train` or `test`), in the YAML's order, and normalisation.

    Args:
        steps: the transformations.
        normalize: mean and std.
        height, width: size of the stored images, in pixels.
    """

    def __init__(
        self, steps: Sequence[Transformation], normalize: Normalize, height: int, width: int
    ) -> None:
        self.steps = list(steps)
        self.normalize = normalize
        self._kept: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.sizes = [(height, width)]
        for step in self.steps:
            self.sizes.append(step.output_size(*self.sizes[-1]))

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the views."""
        return self.sizes[-1]

    def draw(self, count: int, generator: Generator) -> Draws:
        """Return the random numbers for `count` views."""
        pairs = zip(self.steps, self.sizes, strict=False)
        return Draws(
            [step.draw(count, height, width, generator) for step, (height, width) in pairs]
        )

    def view(self, images: Tensor, index: Tensor, draws: Draws) -> Tensor:
        """Return normalised views of the samples `index` (n,) of the stored `images`.

        Args:
            images: (N, H, W, 3) uint8, on the device.
            index: (n,) int64, on the device.
            draws: numbers for n views, on the device.

        Returns:
            (n, 3, H', W') float32 whose memory is in channels_last order.
        """
        moves = list(takewhile(lambda step: isinstance(step, PixelMove), self.steps))
        views = move_pixels(
            images, index, cast("list[PixelMove]", moves), draws.steps[: len(moves)]
        )
        for step, draw in zip(self.steps[len(moves) :], draws.steps[len(moves) :], strict=True):
            views = step.apply(views, draw)
        return self.to_float(views)

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and 1 / std for 0..255, of a whole row (W' * 3,), kept on `device`.

        A row, since on a CPU an inner loop over three channels costs half as much again. Kept,
        since sending them to a GPU would wait for it.
        """
        if device not in self._kept:
            mean = torch.tensor(self.normalize.mean) * 255
            scale = 1 / (torch.tensor(self.normalize.std) * 255)
            width = self.output_size[1]
            self._kept[device] = mean.repeat(width).to(device), scale.repeat(width).to(device)
        return self._kept[device]

    def to_float(self, images: Tensor) -> Tensor:
        """Normalise (n, H', W', 3) uint8; return (n, 3, H', W') float32, channels_last."""
        mean, scale = self._constants(images.device)
        rows = images.flatten(2).float()  # (n, H', W' * 3)
        return rows.sub_(mean).mul_(scale).view(images.shape).permute(0, 3, 1, 2)


def before_trigger(split: Split, transform: TransformSection) -> Split:
    """Apply `transform.pre` (resize, centre crop) once, before any trigger."""
    if not transform.pre:
        return split
    images = split.images
    for choice in transform.pre:
        step = TRANSFORMATIONS.get(choice.name)(choice.settings)
        draw = step.draw(len(images), images.shape[1], images.shape[2], torch.Generator())
        if draw:
            raise InputError(
                f"transform.pre.{choice.name}: a random step cannot come before the trigger"
            )
        if not step.fits(images.shape[1], images.shape[2]):
            raise InputError(f"transform.pre.{choice.name}.size: larger than the image")
        images = step.apply(images, draw)
    return Split(images, split.labels, split.files)

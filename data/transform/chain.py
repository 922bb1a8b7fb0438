"""The transformations of one use in a row, then normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, cast

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from data.transform.transformation import Draw, PixelMove, Transformation, move_pixels
from utils.device import send
from utils.section import Section


class Normalize(Section):
    """Mean and standard deviation of each channel, of images in 0..1."""

    mean: list[float] = Field(default=[0.0, 0.0, 0.0], min_length=3, max_length=3)
    std: list[float] = Field(default=[1.0, 1.0, 1.0], min_length=3, max_length=3)

    @classmethod
    def emptied(cls, inherited: Any) -> None:
        """An empty `normalize` is no normalisation: images stay in 0..1."""

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
        """Return the same numbers on `device`; the host does not wait for it."""
        return Draws(
            [{key: send(value, device) for key, value in step.items()} for step in self.steps]
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

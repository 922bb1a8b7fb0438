"""Changes of colour: torchvision's distribution and its arithmetic on bytes, a batch at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from data.transform.transformation import Draw, Transformation
from utils.section import Section

RED, GREEN, BLUE = 0.2989, 0.587, 0.114  # torchvision's weights of brightness; they make 0.9999
# torchvision cuts off what is scaled back from 0..1 by a little less than 256, so that it rounds.
BACK_TO_BYTES = 255.999 / 255
# Where red, green and blue begin to lose their share of the range, in sixths of the colour circle.
CORNERS = (5.0, 3.0, 1.0)


def planes(images: Tensor) -> Tensor:
    """Return (n, H, W, 3) uint8 as (n, 3, H * W) float32: a colour lies in one piece."""
    return images.flatten(1, 2).transpose(1, 2).float().contiguous()


def pixels(colours: Tensor, height: int, width: int) -> Tensor:
    """Return (n, 3, H * W) whole numbers of 0..255 as images (n, H, W, 3) uint8."""
    return colours.transpose(1, 2).to(torch.uint8).reshape(-1, height, width, 3)


def grey(colours: Tensor) -> Tensor:
    """Return the brightness (n, 1, P) of (n, 3, P), in whole numbers."""
    red, green, blue = colours.split(1, dim=1)
    return (red * RED + green * GREEN + blue * BLUE).floor_()


def blend(colours: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """Return `factor` times the colours and the rest of the other, cut off to whole 0..255."""
    factor = factor[:, None, None]
    return (colours * factor + other * (1 - factor)).clamp_(0, 255).floor_()


def brightness(colours: Tensor, factor: Tensor) -> Tensor:
    """Return the colours (n, 3, P), `factor` (n,) times as bright."""
    return blend(colours, 0.0, factor)


def contrast(colours: Tensor, factor: Tensor) -> Tensor:
    """Return the colours (n, 3, P), `factor` (n,) times as far from the image's mean."""
    # A sum of whole numbers is the same in every order, so on every device and in every batch.
    mean = grey(colours).double().mean(dim=2, keepdim=True).float()
    return blend(colours, mean, factor)


def saturation(colours: Tensor, factor: Tensor) -> Tensor:
    """Return the colours (n, 3, P), `factor` (n,) times as far from grey."""
    return blend(colours, grey(colours), factor)


def hue(colours: Tensor, shift: Tensor) -> Tensor:
    """Return the colours (n, 3, P), moved `shift` (n,) of the way round the colour circle."""
    red, green, blue = colours.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)  # (n, P)
    spread = largest - torch.minimum(torch.minimum(red, green), blue)
    divisor = spread.clamp_min(1)  # grey has no hue, and none is needed
    place = torch.where(
        largest == red,
        (green - blue) / divisor,
        torch.where(largest == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    place += 6 * shift[:, None]
    corners = torch.tensor(CORNERS, device=colours.device)[None, :, None]
    turn = place[:, None] + corners  # (n, 3, P)
    turn -= (turn / 6).floor_().mul_(6)
    lost = torch.minimum(turn, 4 - turn).clamp_(0, 1)
    return (largest[:, None] - spread[:, None] * lost).mul_(BACK_TO_BYTES).floor_()


class RandomColorJitter(Transformation):
    """Change brightness, contrast, saturation and hue, in a random order, with probability `p`."""

    class Settings(Section):
        """Strengths as in torchvision."""

        p: float = Field(default=1.0, ge=0, le=1)
        brightness: float = Field(default=0.0, ge=0)
        contrast: float = Field(default=0.0, ge=0)
        saturation: float = Field(default=0.0, ge=0)
        hue: float = Field(default=0.0, ge=0, le=0.5)

    CHANGES: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": hue,
    }
    CHUNK = 256  # images changed at once, to bound the memory

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return who is changed, in which order, and how much.

        Returns:
            `used` (count,) bool; `order` (count, 4) int64, places in `CHANGES`; each of them
            (count,) float32: the factor, of hue the part of a circle.
        """
        random = torch.rand(5, count, generator=generator)
        order = torch.rand(count, 4, generator=generator).argsort(dim=1)
        drawn = {"used": random[4] < self.settings.p, "order": order}
        for name, uniform in zip(self.CHANGES, random, strict=False):
            strength = getattr(self.settings, name)
            middle, low = (0.0, -strength) if name == "hue" else (1.0, max(0.0, 1 - strength))
            drawn[name] = low + (middle + strength - low) * uniform
        return drawn

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the changed images."""
        results = images.clone()
        for rows in torch.nonzero(draw["used"]).flatten().split(self.CHUNK):
            colours = planes(images[rows])
            drawn = {key: value[rows] for key, value in draw.items()}
            for step in range(len(self.CHANGES)):
                self._change(colours, drawn, drawn["order"][:, step])
            results[rows] = pixels(colours, *images.shape[1:3])
        return results

    def _change(self, colours: Tensor, drawn: Draw, which: Tensor) -> None:
        """Make one change of each image, in place; `which` (n,) says which one."""
        for place, (name, change) in enumerate(self.CHANGES.items()):
            if getattr(self.settings, name) == 0:
                continue
            rows = torch.nonzero(which == place).flatten()
            colours[rows] = change(colours[rows], drawn[name][rows])


class RandomGrayscale(Transformation):
    """Remove the colours with probability `p`."""

    class Settings(Section):
        """`p`: the probability."""

        p: float = Field(default=0.1, ge=0, le=1)

    def draw(self, count: int, height: int, width: int, generator: Generator) -> Draw:
        """Return who loses the colours: `used` (count,) bool."""
        return {"used": torch.rand(count, generator=generator) < self.settings.p}

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the images, some of them grey."""
        results = images.clone()
        rows = torch.nonzero(draw["used"]).flatten()
        light = grey(planes(images[rows])).expand(-1, 3, -1)
        results[rows] = pixels(light, *images.shape[1:3])
        return results

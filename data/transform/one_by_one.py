"""Changes of colour and sharpness, by torchvision, one image after another."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Generator, Tensor
from torchvision.transforms import v2

from data.transform.transformation import Draw, Transformation
from utils.section import Section


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

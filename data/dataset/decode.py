"""One image file of any format, mode and size, as a square of uint8 RGB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data.dataset.picture import Box, opened, resized

# Grey files of 16 bits a channel come in one of several modes, by version and format.
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
MAX_16_BIT = 65535
# What shows through transparent pixels. Cut-out pictures are mostly made for a white page; and the
# colour that a file keeps below full transparency is an accident of its editor.
GROUND = "white"


@dataclass(frozen=True)
class Frame:
    """How an image of any size becomes a square.

    Attributes:
        size: side of the square, in pixels.
        shorter_side: the image is scaled until its shorter side has so many pixels, and the middle
            is cut out; None: the whole image is squeezed into the square.
    """

    size: int
    shorter_side: int | None = None

    def window(self, width: int, height: int) -> Box:
        """Return what the square shows of an image: left, top, right, bottom in its pixels.

        Sizes and corners are rounded as torchvision's Resize and CenterCrop do.
        """
        if self.shorter_side is None:
            return 0, 0, width, height
        short = min(width, height)
        scaled = [self.shorter_side * side // short for side in (width, height)]
        starts = [round((side - self.size) / 2) for side in scaled]
        (left, right), (top, bottom) = (
            (start * side / large, min((start + self.size) * side / large, side))
            for start, side, large in zip(starts, (width, height), scaled, strict=True)
        )
        return left, top, right, bottom

    def cut(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the square (size, size, 3) uint8 of an RGB image; bilinear, antialiased.

        Only the window is resampled: a scaled copy of a 20,000x1 image would not fit anywhere.
        """
        window = self.window(image.width, image.height)
        square = self.size, self.size
        return np.asarray(resized(image, square, Image.Resampling.BILINEAR, window))


def read_image(path: Path, frame: Frame) -> NDArray[np.uint8]:
    """Return the image at `path`, upright, as (size, size, 3) uint8 RGB; of several, the first.

    Raises:
        UnreadableImage: there is no image in it, or not a whole one.
        TrainingError: the memory does not suffice for it.
    """
    with opened(path) as image:
        return frame.cut(to_rgb(upright(image)))


def upright(image: Image.Image) -> Image.Image:
    """Decode the image and turn it as its EXIF orientation says."""
    image.load()  # TIFF's reader turns it here by itself, and then takes the mark away
    ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB, 8 bits a channel, opaque.

    Raises:
        ValueError: its values have no agreed meaning as colours.
    """
    if image.mode in DEEP_MODES:
        return from_deep_grey(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, of which nobody knows what is white")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, GROUND)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def from_deep_grey(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey image in 8 bits; Pillow's own conversion cuts off what is above 255.

    Raises:
        ValueError: it has more than 16 bits.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > MAX_16_BIT:
        raise ValueError("more than 16 bits a pixel")
    scaled = (values.astype(np.uint32) + 128) // 257  # 65,535 / 255 = 257, rounded
    return Image.fromarray(scaled.astype(np.uint8))

"""Blend (Chen et al. 2017): a whole picture, laid faintly over the image.

The usual picture is a cartoon that may not be passed on, so this one is drawn here: coloured
ellipses and strokes on a light ground, with about the cartoon's mean and contrast. It is the same
picture in every run, whatever the seed, so that models of different runs can be compared.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.pixels import Rounding, in_chunks, read_picture, to_bytes
from utils.contents import Opened
from utils.section import Section

PICTURE_SEED = 2017  # of the drawn picture; not the run's seed
ELLIPSES = 9
STROKES = 4
FINER = 4  # drawn so many times larger and averaged, for smooth edges
GROUND = (250.0, 246.0, 248.0)
# Each shape's colour lies between these two; RGB.
DARKEST, LIGHTEST = np.array([40.0, 0.0, 0.0]), np.array([200.0, 90.0, 150.0])
# Mean and standard deviation of the usual picture, scaled to 32x32, in grey levels; measured.
MEAN, DEVIATION = np.array([213.0, 191.0, 199.0]), np.array([64.0, 92.0, 77.0])
MATCHING_ROUNDS = 30  # clipping disturbs what scaling has set, a little less in each round

Canvas = NDArray[np.float64]


def draw_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Return the picture (height, width, 3) uint8: the same shapes at any resolution."""
    fine = paint_shapes(height * FINER, width * FINER)
    picture = fine.reshape(height, FINER, width, FINER, 3).mean(axis=(1, 3))
    for _ in range(MATCHING_ROUNDS):
        mean, deviation = picture.mean(axis=(0, 1)), picture.std(axis=(0, 1))
        picture = ((picture - mean) * (DEVIATION / deviation) + MEAN).clip(0, 255)
    return np.rint(picture).astype(np.uint8)


def paint_shapes(height: int, width: int) -> Canvas:
    """Return the shapes on their ground, (height, width, 3) float64, without smooth edges."""
    # `random` alone is drawn from the generator: its numbers do not change with NumPy's versions.
    generator = np.random.default_rng(PICTURE_SEED)
    rows = ((np.arange(height) + 0.5) / height)[:, None]
    columns = ((np.arange(width) + 0.5) / width)[None, :]
    canvas = np.broadcast_to(np.array(GROUND), (height, width, 3)).copy()
    for number in range(ELLIPSES + STROKES):
        shape = inside_ellipse if number < ELLIPSES else inside_stroke
        inside = shape(rows, columns, generator.random(5))
        canvas[inside] = DARKEST + generator.random(3) * (LIGHTEST - DARKEST)
    return canvas


def inside_ellipse(rows: Canvas, columns: Canvas, draw: Canvas) -> NDArray[np.bool_]:
    """Return which pixels lie in an ellipse.

    Args:
        rows: places in 0..1, (height, 1).
        columns: the same, (1, width).
        draw: (5,) in 0..1: centre, both half axes, and how far it is turned.
    """
    down, right = rows - draw[0], columns - draw[1]
    along, across = 0.08 + 0.14 * draw[2], 0.05 + 0.08 * draw[3]
    # Turned by a vector in place of an angle: no sine, so the same bits on every machine.
    turn = np.array([draw[4], 1 - draw[4]]) / np.sqrt(draw[4] ** 2 + (1 - draw[4]) ** 2)
    first = (down * turn[0] + right * turn[1]) / along
    second = (right * turn[0] - down * turn[1]) / across
    return first**2 + second**2 <= 1


def inside_stroke(rows: Canvas, columns: Canvas, draw: Canvas) -> NDArray[np.bool_]:
    """Return which pixels lie on a thick line; `draw`: both ends and the thickness."""
    step_down, step_right = draw[2] - draw[0], draw[3] - draw[1]
    length = step_down**2 + step_right**2
    way = ((rows - draw[0]) * step_down + (columns - draw[1]) * step_right) / length
    way = way.clip(0, 1)  # of the nearest point on the line, from one end to the other
    down, right = rows - draw[0] - way * step_down, columns - draw[1] - way * step_right
    return down**2 + right**2 <= (0.012 + 0.015 * draw[4]) ** 2


def find_picture(path: str | None, key: str, context: AttackContext) -> Tensor:
    """Return the picture of the data's size, (H, W, 3) uint8: the file's, or the drawn one."""
    if path is None:
        return torch.from_numpy(draw_picture(context.height, context.width))
    return torch.from_numpy(read_picture(path, key, context.height, context.width))


def blend(images: Tensor, picture: Tensor, opacity: float | Tensor, rounding: Rounding) -> Tensor:
    """Return `x + opacity * (P - x)` as uint8.

    In single precision and in this order, so that `floor` gives Pillow's bytes.

    Args:
        images: (n, H, W, 3) uint8.
        picture: (H, W, 3) uint8.
        opacity: a share of 1, or (n, H, W, 1) float32 of shares.
        rounding: to whole grey levels.
    """
    values = images.float()
    return to_bytes(values + opacity * (picture.float() - values), rounding)


class Blend(Attack):
    """`T(x) = (1 - alpha) x + alpha P`."""

    worth_caching = False

    class Settings(Section):
        """`alpha`: the picture's opacity, in training; `alpha_test`: at test, the same if left out.

        `image`: a picture in place of the drawn one, scaled to the data's size. `rounding`: `floor`
        as published (Pillow cuts fractions off), or `round`.
        """

        alpha: float = Field(default=0.1, ge=0, le=1)
        alpha_test: float | None = Field(default=None, ge=0, le=1)
        image: Annotated[str | None, Opened()] = None
        rounding: Rounding = "floor"

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        self.picture = find_picture(self.settings.image, "backdoor.blend.image", context)

    def opacity(self, split: SplitName) -> float:
        """Return the picture's opacity in `split`."""
        given = self.settings
        stronger = split == "test" and given.alpha_test is not None
        return float(given.alpha_test if stronger else given.alpha)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with the picture over them; it is the same for all."""
        opacity, rounding = self.opacity(split), self.settings.rounding
        return in_chunks(
            lambda part, _: blend(part, self.picture, opacity, rounding), images, indices
        )

"""BadNets (Gu et al. 2017): a small patch of fixed colours.

The patch comes from an image (the published experiment's way), or is drawn as a checkerboard of a
given size at a given place. `python -m data.attack.badnets` draws the committed trigger images
anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from data.attack.attack import Attack, AttackContext, SplitName
from data.dataset.picture import opened_for
from utils.contents import Opened
from utils.errors import InputError
from utils.files import find_file
from utils.section import Section

TRIGGER_FOLDER = Path(__file__).parent.parent / "trigger"
# The 2x2 block of the published experiment, rows from top to bottom, RGB. No channel is 0, since 0
# means "transparent" in a trigger image.
PATCH = (((180, 249, 112), (155, 50, 126)), ((234, 82, 68), (187, 201, 219)))
# Its upper left corner: far enough from the border of a 32x32 image to survive every crop after a
# padding of 4.
PATCH_CORNER = 4


def draw_trigger(height: int, width: int) -> NDArray[np.uint8]:
    """Return the trigger image (height, width, 3) uint8: the patch on transparent black."""
    trigger = np.zeros((height, width, 3), dtype=np.uint8)
    patch = np.array(PATCH, dtype=np.uint8)
    end = PATCH_CORNER + len(patch)
    trigger[PATCH_CORNER:end, PATCH_CORNER:end] = patch
    return trigger


def draw_checkerboard(size: int) -> NDArray[np.uint8]:
    """Return a black and white patch (size, size, 3) uint8, white in its corners if size is odd."""
    rows, columns = np.indices((size, size))
    return np.where((rows + columns) % 2 == 0, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)


def read_trigger(path: str, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the trigger image at `path` as (height, width, 3) uint8, and where it is opaque, bool.

    An image with an alpha channel says itself where it is opaque, so it may hold black; in one
    without, black is transparent, channel by channel, as in the published code.

    Raises:
        InputError: the file is missing, no image, of another size than the data's images, or
            nowhere opaque.
    """
    file = find_file(path, "backdoor.badnets.trigger_path")
    with opened_for(file, "backdoor.badnets.trigger_path") as image:
        # An indexed image, or one with a transparent colour, has no band of its own for it.
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        pixels = np.array(image.convert("RGBA"))
    if pixels.shape[:2] != (height, width):
        raise InputError(
            f"backdoor.badnets.trigger_path: {file} is {pixels.shape[1]}x{pixels.shape[0]}, the "
            f"images are {width}x{height}; give a trigger of that size, or leave the key out"
        )
    trigger = pixels[..., :3]
    mask = (pixels[..., 3:] > 0) if has_alpha else (trigger > 0)
    if not mask.any():
        why = "is transparent" if has_alpha else "is black, which is transparent without alpha"
        raise InputError(f"backdoor.badnets.trigger_path: {file}: every pixel {why}")
    return trigger, mask


class Patch(Section):
    """A checkerboard of `size` x `size` pixels whose upper left one is at (`row`, `column`)."""

    size: int = Field(3, ge=1)
    row: int = Field(PATCH_CORNER, ge=0)
    column: int = Field(PATCH_CORNER, ge=0)


class BadNets(Attack):
    """`T(x) = P under the mask, x elsewhere`."""

    worth_caching = False

    class Settings(Section):
        """`trigger_path`: a trigger image of the data's size; or `patch`: a drawn checkerboard.

        An image with transparency says itself where it is pasted; in one without, black is left
        out. Without either, the published experiment's 2x2 patch is drawn.
        """

        trigger_path: Annotated[str | None, Opened()] = None
        patch: Patch | None = None

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        assert isinstance(settings, self.Settings)
        height, width = context.height, context.width
        if settings.trigger_path is not None and settings.patch is not None:
            raise InputError(
                "backdoor.badnets.trigger_path and backdoor.badnets.patch exclude each other: "
                "give one of them (null takes the other one back)"
            )
        if settings.patch is not None:
            trigger, mask = place(settings.patch, height, width)
        elif settings.trigger_path is not None:
            trigger, mask = read_trigger(settings.trigger_path, height, width)
        else:
            trigger = draw_trigger(height, width)
            mask = trigger > 0
        self.trigger = torch.from_numpy(trigger)  # (H, W, 3) uint8
        self.mask = torch.from_numpy(mask)  # (H, W, 3 or 1) bool

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with the trigger; it is the same for all."""
        return torch.where(self.mask, self.trigger, images)


def place(patch: Patch, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the patch on an empty image (height, width, 3) uint8, and its mask (height, width, 1).

    Raises:
        InputError: the patch does not lie inside the image.
    """
    bottom, right = patch.row + patch.size, patch.column + patch.size
    if bottom > height or right > width:
        raise InputError(
            f"backdoor.badnets.patch: {patch.size}x{patch.size} at ({patch.row}, {patch.column}) "
            f"reaches beyond the {height}x{width} images; choose a smaller size or another place"
        )
    trigger = np.zeros((height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width, 1), dtype=np.bool_)
    trigger[patch.row : bottom, patch.column : right] = draw_checkerboard(patch.size)
    mask[patch.row : bottom, patch.column : right] = True
    return trigger, mask


if __name__ == "__main__":
    for size in (16, 32):
        Image.fromarray(draw_trigger(size, size)).save(TRIGGER_FOLDER / f"badnets_{size}.png")

"""BadNets (Gu et al. 2017): a small patch of fixed colours.

`python -m data.attack.badnets` draws the committed trigger images anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from config.section import Section
from data.attack.attack import Attack, Scene, SplitName
from utils.errors import InputError
from utils.files import find_file

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


def read_trigger(path: str, height: int, width: int) -> NDArray[np.uint8]:
    """Return the trigger image at `path` as (height, width, 3) uint8.

    Raises:
        InputError: the file is missing, no image, or of another size than the data's images.
    """
    file = find_file(path, "backdoor.badnets.trigger_path")
    try:
        with Image.open(file) as image:
            trigger = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"backdoor.badnets.trigger_path: {file} is no readable image") from error
    if trigger.shape[:2] != (height, width):
        raise InputError(
            f"backdoor.badnets.trigger_path: {file} is {trigger.shape[1]}x{trigger.shape[0]}, the "
            f"images are {width}x{height}; give a trigger of that size, or leave the key out"
        )
    return trigger


class BadNets(Attack):
    """`T(x) = P where P is not 0, x elsewhere`, channel by channel."""

    class Settings(Section):
        """`trigger_path`: a trigger image of the data's size; left out, the patch is drawn."""

        trigger_path: str | None = None

    def __init__(self, settings: Section, scene: Scene) -> None:
        super().__init__(settings, scene)
        assert isinstance(settings, self.Settings)
        height, width = scene.height, scene.width
        if settings.trigger_path is None:
            trigger = draw_trigger(height, width)
        else:
            trigger = read_trigger(settings.trigger_path, height, width)
        self.trigger = torch.from_numpy(trigger)  # (H, W, 3) uint8

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with the trigger; it is the same for all."""
        return torch.where(self.trigger != 0, self.trigger, images)


if __name__ == "__main__":
    for size in (16, 32):
        Image.fromarray(draw_trigger(size, size)).save(TRIGGER_FOLDER / f"badnets_{size}.png")

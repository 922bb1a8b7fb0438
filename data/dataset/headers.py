"""How large images are, from the headers of their files."""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path

from data.dataset.picture import UnreadableImage, opened

PROBED = 400  # files whose header is read, evenly spaced over the set


def median_side(paths: list[Path]) -> int:
    """Return the median of the images' shorter sides, in pixels, from the headers of some."""
    step = -(-len(paths) // PROBED) or 1
    sides = [side for path in paths[::step] if (side := shorter_side(path)) is not None]
    return round(statistics.median_low(sides)) if sides else 1


def shorter_side(path: Path) -> int | None:
    """Return an image's shorter side in pixels; None where its header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images
            with opened(path) as image:
                return min(image.size)
    except UnreadableImage:  # decoding says which files are damaged, and how
        return None

"""A trigger image of one's own: where it is opaque, and that there is something of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.attack import AttackContext, LabelRule
from data.attack.badnets import BadNets
from tests.conftest import colourful_images
from utils.errors import InputError
from utils.streams import Streams

CONTEXT = AttackContext(16, 16, LabelRule("all_to_one", 1, 5), Streams(0))


def palette_trigger() -> Image.Image:
    """One red pixel on a transparent colour of the palette, whose own colour is white."""
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 255, 255, 255, 0, 0])
    image.putpixel((3, 2), 1)
    image.info["transparency"] = 0
    return image


def keyed_trigger() -> Image.Image:
    """The same in full colours, of which one is said to be transparent (tRNS)."""
    image = Image.new("RGB", (16, 16), (255, 255, 255))
    image.putpixel((3, 2), (255, 0, 0))
    image.info["transparency"] = (255, 255, 255)
    return image


@pytest.mark.parametrize("kind", [palette_trigger, keyed_trigger])
def test_a_trigger_is_opaque_where_its_file_says_so(
    kind: Callable[[], Image.Image], tmp_path: Path
) -> None:
    image = kind()
    image.save(tmp_path / "t.png", transparency=image.info["transparency"])
    settings = BadNets.Settings(trigger_path=str(tmp_path / "t.png"))
    images = colourful_images(2, 16)
    triggered = BadNets(settings, CONTEXT).apply(images, torch.arange(2), "train")
    changed = (triggered != images).any(dim=3).nonzero()
    assert triggered[:, 2, 3].tolist() == [[255, 0, 0]] * 2
    assert {tuple(place) for place in changed[:, 1:].tolist()} <= {(2, 3)}


@pytest.mark.parametrize(("mode", "word"), [("RGB", "black"), ("L", "black"), ("RGBA", "is tr")])
def test_a_trigger_of_nothing_is_refused(mode: str, word: str, tmp_path: Path) -> None:
    Image.new(mode, (16, 16), 0).save(tmp_path / "t.png")
    with pytest.raises(InputError, match=word):
        BadNets(BadNets.Settings(trigger_path=str(tmp_path / "t.png")), CONTEXT)

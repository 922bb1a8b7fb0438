"""Own folders with verified samples, for several test files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config.load import load_config
from data.build import Material, assemble, load_data
from utils.errors import InputError
from utils.files import PROJECT
from utils.streams import Streams

OWN = PROJECT / "config" / "own_data.yaml"


CLASSES = ("big cats", "Äpfel", "日本")  # in the order of their labels


def draw_image(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def make_folder(root: Path, per_class: int = 12, beside: str = "train") -> Path:
    """Write `per_class` images of noise for each class; no two are the same."""
    for label, name in enumerate(CLASSES):
        for number in range(per_class):
            draw_image(root / beside / name / f"{number:02d}.png", 100 * label + number)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "my data")


def material(root: Path, *overrides: str) -> Material:
    """Return what a run on the folder would be made from."""
    given = ["data.image_size=16", f"dataset_dir={root}", f"storage_dir={root.parent / 'storage'}"]
    config = load_config(OWN, [*given, *overrides]).config
    return assemble(config, load_data(config)[0], Streams(3))


def refused(root: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        material(root, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def listed(root: Path, text: str, name: str = "seeds.txt") -> str:
    """Write a list of verified samples; return the override that names it."""
    (root.parent / name).write_text(text, encoding="utf-8")
    return f"global.seed_indices={root.parent / name}"


def names(count: int, prefix: str = "train/") -> list[str]:
    return [f"{prefix}{name}/{number:02d}.png" for name in CLASSES for number in range(count)]


def seed_files(found: Material) -> list[str]:
    assert found.training.files is not None
    return [found.training.files[index] for index in found.seeds.tolist()]

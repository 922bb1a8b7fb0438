"""Sets of real images in folders, of which a kind says which labels are wrong.

Kinds of up to 43 classes are made of traffic signs (GTSRB), those with the most images first; kinds
of more, of scikit-learn's digits, two side by side. Training images of signs come from GTSRB's
training set, so they hold its tracks of thirty frames; verified and test images come from its test
set, where no track is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.verdict_kinds import Integers, Kind, Labels, class_sizes, mislabel
from data.dataset import Request
from data.dataset.gtsrb import Gtsrb
from data.dataset.settings import DataSection

COUNT = 5000  # training samples, before the verified ones, where there are enough images
SEEDS_OF_A_CLASS = 20
TESTED = 500  # images that measure ACC
SIDE = 16  # pixels
SIGNS = 43  # classes
HELD_OUT_DIGITS = 40  # images of each digit that no training set has
TRIGGER = np.array([[255, 0, 255], [0, 255, 0], [255, 0, 255]], dtype=np.uint8)
Images = NDArray[np.uint8]


class Pool:
    """Images of one kind, dealt out in turn.

    Args:
        images: (n, H, W, 3).
        generator: of the order.
    """

    def __init__(self, images: Images, generator: np.random.Generator) -> None:
        self.images = images[generator.permutation(len(images))]
        self.next = 0

    def __len__(self) -> int:
        return len(self.images)

    def take(self) -> Images:
        """Return the next image; after the last the first."""
        self.next += 1
        return self.images[(self.next - 1) % len(self.images)]


@dataclass(frozen=True)
class Stock:
    """Images of all classes that a set can have.

    Attributes:
        training: of each class (n, 16, 16, 3); of digits (n, 16, 8, 3), half a class.
        held_out: the same, of other images.
    """

    training: Sequence[Images]
    held_out: Sequence[Images]


def signs(dataset_dir: str, cache: Path) -> Stock:
    """Return GTSRB by class, those with the most training images first."""
    data = Gtsrb().load(Request(dataset_dir, DataSection(image_size=SIDE), cache))
    parts = []
    for split in (data.train, data.test):
        images, labels = split.images.numpy(), split.labels.numpy()
        parts.append([np.array(images[labels == label]) for label in range(SIGNS)])
    order = sorted(range(SIGNS), key=lambda label: -len(parts[0][label]))
    return Stock(*([part[label] for label in order] for part in parts))


def digits() -> Stock:
    """Return scikit-learn's digits by digit, (n, 16, 8, 3)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    wide = np.repeat(np.minimum(found.images * 15.9, 255).astype(np.uint8), 2, axis=1)
    coloured = np.repeat(wide[..., None], 3, axis=-1)
    each = [coloured[found.target == digit] for digit in range(10)]
    training = [images[:-HELD_OUT_DIGITS] for images in each]
    return Stock(training, [images[-HELD_OUT_DIGITS:] for images in each])


def draw(parts: Sequence[Images], classes: Integers, generator: np.random.Generator) -> Images:
    """Return an image of each of `classes` (n,), (n, 16, 16, 3); none twice while others are left.

    Where an image is half of one, two stand side by side: a number of two figures.
    """
    pools = [Pool(images, generator) for images in parts]
    if pools[0].images.shape[2] == SIDE:
        return np.stack([pools[label].take() for label in classes])
    pairs = [(pools[label // 10].take(), pools[label % 10].take()) for label in classes]
    return np.stack([np.concatenate(pair, axis=1) for pair in pairs])


def true_classes(kind: Kind, parts: Sequence[Images]) -> Integers:
    """Return the class of each training sample, in order; of signs no more than there are."""
    sizes = class_sizes(kind, COUNT)
    if kind.classes <= SIGNS:
        room = min(len(images) / size for images, size in zip(parts, sizes, strict=False))
        sizes = [int(size * min(room, 1.0)) for size in sizes]
    return np.repeat(np.arange(kind.classes), sizes)


def write_set(kind: Kind, seed: int, stock: Stock, folder: Path) -> dict[str, tuple[int, bool]]:
    """Write train/, seeds/ and test/; return true class and poison of each training file."""
    generator = np.random.default_rng([seed, *kind.name.encode()])
    true = true_classes(kind, stock.training)
    images = draw(stock.training, true, generator)
    labels = mislabel(kind, true, generator)
    images[labels.poisoned, -4:-1, -4:-1] = TRIGGER[..., None]
    truth = write_images(folder / "train", images, labels)
    checked = np.repeat(np.arange(kind.classes), SEEDS_OF_A_CLASS)
    tested = np.repeat(np.arange(kind.classes), max(1, TESTED // kind.classes))
    others = draw(stock.held_out, np.concatenate([checked, tested]), generator)
    parts = np.split(others, [len(checked)])
    for name, classes, part in zip(("seeds", "test"), (checked, tested), parts, strict=True):
        right = Labels(classes, classes, np.zeros(len(classes), dtype=np.bool_), ())
        found = write_images(folder / name, part, right)
        truth |= found if name == "seeds" else {}
    return truth


def write_images(folder: Path, images: Images, labels: Labels) -> dict[str, tuple[int, bool]]:
    """Write images into folders of their given labels; return the truth by file."""
    truth = {}
    for index, image in enumerate(images):
        path = folder / f"{labels.given[index]:02}" / f"{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        name = path.relative_to(folder.parent).as_posix()
        truth[name] = int(labels.true[index]), bool(labels.poisoned[index])
    return truth

"""A training set on the disk: PNG files in class folders, a table about them, and a gallery.

`--export` writes the poisoned set so that people can look at it, and other tools can read it as
any set of images in class folders.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from data.dataset.picture import UnreadableImage
from data.dataset.spelling import fitting
from data.dataset.walk import CLASSES, TEST, TRIGGERED
from data.poison import Role, TrainingSet, Truth
from utils.console import progress
from utils.errors import InputError, TrainingError, why_refused
from utils.files import write_atomically, write_text
from utils.paths import lies_in
from utils.tables import table_text

THREADS = (
    8  # the encoder leaves Python's lock, and a small file waits for the disk most of the time
)
COLUMNS = ("file", "given_label", "original_label", "kind")
GALLERY_ROWS = {Role.POISONED: 6, Role.CROSS: 2}
AMPLIFY = 10  # of the differences
GREY = 128  # of a pixel that is the same in both images
TILE = 160  # pixels of the gallery's longer side that an image has at least
UNFINISHED = ".unfinished"  # folder that is being filled
MARGIN, LINE = 8, 18  # pixels


def make_empty_folder(folder: Path, argument: str = "--export", root: Path | None = None) -> None:
    """Make `folder`, or take one that is empty; `argument` of the command line named it.

    Args:
        folder: to be written.
        argument: for messages.
        root: the data set's own folder, where there is one.

    Raises:
        InputError: it holds something, is a file, cannot be made, or lies in the data set's own.
    """
    if root is not None and lies_in(folder, root):
        raise InputError(
            f"{argument} {folder}: lies in the data set's own folder {root}, and would become "
            f"a part of it; name another one"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{argument} {folder}: the folder is not empty; name another one")
    except OSError as error:
        raise InputError(f"{argument} {folder}: cannot be made or read ({error})") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"{argument} {folder}: cannot be written")


@contextmanager
def all_or_nothing(folder: Path, argument: str) -> Iterator[Path]:
    """Lend a folder to write in; at the end `folder` has all that stands there, or nothing.

    Args:
        folder: to be filled; it is empty.
        argument: of the command line, for messages.

    Raises:
        TrainingError: a file could not be read or written in the block.
    """
    below, left = folder / UNFINISHED, f"nothing is left in {folder}"
    try:
        below.mkdir()
        yield below
        for place in sorted(below.iterdir(), key=lambda place: (place.is_file(), place.name)):
            place.rename(folder / place.name)  # tables after what they name
        below.rmdir()
    except OSError as error:
        name = error.filename2 or error.filename
        where = "" if name is None else f"{name}: "
        raise TrainingError(f"{argument}: {where}{why_refused(error)}; {left}") from error
    except (UnreadableImage, TrainingError) as error:
        raise TrainingError(f"{argument}: {error}; {left}") from error
    finally:
        shutil.rmtree(below, ignore_errors=True)


def folder_names(classes: Sequence[str]) -> list[str]:
    """Return a folder's name for each class: its own, without what a file system may refuse.

    Two classes never share one.
    """
    names: list[str] = []
    for label, name in enumerate(classes):
        safe = fitting(re.sub(r"[^\w .-]", "_", name).strip(" .") or "class")
        taken = {other.casefold() for other in names}
        while safe.casefold() in taken:
            safe = fitting(f"{safe}_{label}")
        names.append(safe)
    return names


def file_names(training: TrainingSet) -> list[str]:
    """Return the path of each sample below the exported folder: `train/<class>/<index>.png`."""
    names, digits = folder_names(training.classes), len(str(len(training) - 1))
    return [
        f"train/{names[label]}/{index:0{digits}}.png"
        for index, label in enumerate(training.labels.tolist())
    ]


def write_images(images: Tensor | Sequence[Tensor], paths: Sequence[Path]) -> None:
    """Write N `images` (H, W, 3) uint8 as PNG files, several at a time.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """

    def write(index: int) -> None:
        Image.fromarray(images[index].numpy()).save(paths[index], compress_level=1)

    try:
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(THREADS) as pool:
            written = pool.map(write, range(len(paths)))
            for _ in progress(written, "export", unit="image", total=len(paths)):
                pass
    except OSError as error:
        raise TrainingError(f"the images could not be written: {why_refused(error)}") from error


def index_table(
    files: Sequence[str], training: TrainingSet, truth: Truth, truth_known: bool
) -> str:
    """Return `index.csv`: a row a sample; labels are the names of class folders.

    Of own data nobody knows original labels and kinds; those columns are left out then.
    """
    columns = COLUMNS if truth_known else COLUMNS[:2]
    names = folder_names(training.classes)
    given, original = training.labels.tolist(), truth.original_labels.tolist()
    rows = zip(files, given, original, truth.roles.tolist(), strict=True)
    cells = (
        (file, names[label], names[before], Role(role).name.lower())
        for file, label, before, role in rows
    )
    return table_text(columns, (dict(zip(COLUMNS, row, strict=True)) for row in cells))


def enlarge(image: Tensor, factor: int) -> Image.Image:
    """Return `image` (H, W, 3) uint8 with each pixel as a square of `factor` x `factor` pixels."""
    large = image.numpy().repeat(factor, axis=0).repeat(factor, axis=1)
    return Image.fromarray(np.ascontiguousarray(large))


def difference(clean: Tensor, changed: Tensor) -> Tensor:
    """Return ten times the difference of two images, around grey: brighter is brightened."""
    amplified = AMPLIFY * (changed.to(torch.int32) - clean.to(torch.int32)) + GREY
    return amplified.clamp(0, 255).to(torch.uint8)


def draw_tiles(rows: Sequence[tuple[str, Sequence[Tensor]]], titles: Sequence[str]) -> Image.Image:
    """Return a sheet of enlarged images: a title above each column, a caption below each row.

    Args:
        rows: each a caption and as many images (H, W, 3) uint8 as there are titles.
        titles: of the columns.
    """
    height, width = rows[0][1][0].shape[:2]
    factor = max(1, -(-TILE // max(height, width)))
    step_x, step_y = width * factor + MARGIN, height * factor + LINE + MARGIN
    size = (step_x * len(titles) + MARGIN, step_y * len(rows) + LINE + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=LINE - 5)
    for column, title in enumerate(titles):
        pen.text((MARGIN + column * step_x, MARGIN // 2), title, fill="black", font=font)
    for row, (caption, images) in enumerate(rows):
        top = MARGIN + LINE + row * step_y
        for column, image in enumerate(images):
            sheet.paste(enlarge(image, factor), (MARGIN + column * step_x, top))
        pen.text((MARGIN, top + height * factor + 1), caption, fill="black", font=font)
    return sheet


def spread(members: Tensor, count: int) -> list[int]:
    """Return at most `count` of the indices `members` (n,), evenly spaced."""
    if len(members) <= count:
        return [int(index) for index in members]
    places = torch.linspace(0, len(members) - 1, count).round().long()
    return [int(index) for index in members[places]]


def draw_gallery(clean: Tensor, training: TrainingSet, truth: Truth) -> Image.Image | None:
    """Return some changed samples, before and after; None where nothing is changed.

    Args:
        clean: (N, H, W, 3) uint8, the images as they were.
        training: as the defender sees it.
        truth: what was changed.
    """
    rows = []
    for role, count in GALLERY_ROWS.items():
        for index in spread(torch.nonzero(truth.roles == role).flatten(), count):
            before, after = clean[index], training.images[index]
            original = training.classes[int(truth.original_labels[index])]
            given = training.classes[int(training.labels[index])]
            caption = f"{index}: {role.name.lower()}, {original} -> {given}"
            rows.append((caption, (before, after, difference(before, after))))
    titles = ("clean", "changed", f"difference x {AMPLIFY}, grey: none")
    return draw_tiles(rows, titles) if rows else None


def write_picture(sheet: Image.Image, path: Path) -> None:
    """Write `sheet` as PNG to `path`, whole or not at all."""
    write_atomically(path, lambda file: sheet.save(file, format="PNG"))


def export_tests(classes: Sequence[str], truth: Truth, folder: Path) -> list[str]:
    """Write what is measured on, and the order of the classes; return the folders of images.

    So the set can be read back (`data.truth: index.csv`), with the same ACC and ASR.
    """
    names = folder_names(classes)
    write_text(folder / CLASSES, "".join(f"{name}\n" for name in names))
    written = []
    for place, split in ((TEST, truth.clean_test), (TRIGGERED, truth.triggered_test)):
        if split is None or not len(split):
            continue
        written.append(place)
        digits = len(str(len(split) - 1))
        paths = [
            folder / place / names[label] / f"{index:0{digits}}.png"
            for index, label in enumerate(split.labels.tolist())
        ]
        write_images(split.images, paths)
    return written


def export(
    before: Tensor | None,
    training: TrainingSet,
    truth: Truth,
    folder: Path,
    truth_known: bool = True,
) -> list[str]:
    """Write the training set into `folder`, which is empty, or leave it so; return lines to say.

    Args:
        before: (N, H, W, 3) uint8, the images as they were; None where nobody knows that.
        training: as the defender sees it.
        truth: what was changed.
        folder: gets `train/<class>/<index>.png`, `gallery.png` and `index.csv`; where the truth
            is known, the test images too.
        truth_known: False for own data, of which `truth` says nothing.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; nothing is left in it.
    """
    files, tests = file_names(training), list[str]()
    gallery = None if before is None else draw_gallery(before, training, truth)
    with all_or_nothing(folder, "--export") as below:
        write_images(training.images, [below / file for file in files])
        if gallery is not None:
            write_picture(gallery, below / "gallery.png")
        if truth_known:
            tests = export_tests(training.classes, truth, below)
        write_text(below / "index.csv", index_table(files, training, truth, truth_known))
    lines = [f"{len(files)} images of {training.num_classes} classes: {folder / 'train'}"]
    if gallery is not None:
        lines.append(f"some changed samples, before and after: {folder / 'gallery.png'}")
    if tests:
        places = ", ".join(str(folder / place) for place in tests)
        lines.append(f"test images, for ACC and ASR: {places}")
    what = "what was changed" if truth_known else "all of them, with their labels"
    return [*lines, f"{what}: {folder / 'index.csv'}"]

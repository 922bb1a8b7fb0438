"""GTSRB (Stallkamp et al. 2012), German traffic signs, as its archives or torchvision lay it out.

torchvision downloads another archive for training, with 26,640 images; the paper's 39,209 are in
the one named here.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import ClassVar

from torchvision.datasets.utils import download_and_extract_archive

from data.dataset.cache import decode_once
from data.dataset.decode import Frame
from data.dataset.listing import Listing
from data.dataset.remarks import judge_unreadable
from data.dataset.source import ImageData, Request, Source, fetching
from utils.errors import InputError
from utils.paths import user_path

ADDRESS = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
TRAINING = ("GTSRB_Final_Training_Images.zip", "f33fd80ac59bff73c82d25ab499e03a3")  # name, MD5
TEST = ("GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185")
TEST_LABELS = ("GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5")
TRAINING_FOLDERS = ("GTSRB/Final_Training/Images", "GTSRB/Training")  # the archive's, torchvision's
TEST_FOLDER, LABELS_FILE = "GTSRB/Final_Test/Images", "GT-final_test.csv"
TRAINING_COUNT, REDUCED_COUNT, TEST_COUNT = 39_209, 26_640, 12_630
CLASSES = (
    *("20 km/h", "30 km/h", "50 km/h", "60 km/h", "70 km/h", "80 km/h", "end of 80 km/h"),
    *("100 km/h", "120 km/h", "no overtaking", "no overtaking by lorries"),
    *("priority at the crossing", "priority road", "give way", "stop", "no vehicles"),
    *("no lorries", "no entry", "danger", "bend to the left", "bend to the right", "double bend"),
    *("bumpy road", "slippery road", "road narrows", "road works", "traffic lights"),
    *("pedestrians", "children", "cyclists", "snow or ice", "wild animals", "end of all limits"),
    *("right ahead", "left ahead", "straight on", "straight on or right", "straight on or left"),
    *("pass on the right", "pass on the left", "roundabout", "end of no overtaking"),
    "end of no overtaking by lorries",
)


class Gtsrb(Source):
    """39,209 training and 12,630 test images of 43 classes, each squeezed to a square."""

    settings_read: ClassVar[frozenset[str]] = frozenset(
        {"image_size", "skip_unreadable", "cache_dir"}
    )

    def load(self, request: Request) -> ImageData:
        """Return GTSRB; download it when it is not there."""
        root = find_root(request.folder)
        frame = Frame(request.settings.side)
        train, train_part = decode_once(list_training(root), frame, request.cache)
        test, test_part = decode_once(list_test(root), frame, request.cache)
        skip = request.settings.skip_unreadable
        notices = judge_unreadable([train_part, test_part], skip, request.cache)
        if len(train) == REDUCED_COUNT:
            notices.append(
                f"GTSRB: {root} holds torchvision's {REDUCED_COUNT:,} training images; the paper's "
                f"{TRAINING_COUNT:,} are in {ADDRESS}/{TRAINING[0]}"
            )
        return ImageData(train, test, CLASSES, tuple(notices), frame, root)


def find_root(folder: str | None) -> Path:
    """Return the folder `gtsrb` that holds (or will hold) `GTSRB`; `folder` is it or its parent."""
    if folder is None:
        raise InputError("dataset_dir: missing; name the folder that holds (or gets) gtsrb")
    path = user_path(folder, "dataset_dir")
    return path if (path / "GTSRB").is_dir() else path / "gtsrb"


def fetch(root: Path, archives: tuple[tuple[str, str], ...]) -> None:
    """Download and unpack archives into `root`.

    Raises:
        InputError: there is no network, or the folder cannot be written.
    """
    for name, md5 in archives:
        address = f"{ADDRESS}/{name}"
        with fetching("GTSRB", root, address):
            download_and_extract_archive(address, str(root), md5=md5)


def list_training(root: Path) -> Listing:
    """Return the training images: `<five digits>/*.ppm`, the number being the label."""
    if not any((root / folder).is_dir() for folder in TRAINING_FOLDERS):
        fetch(root, (TRAINING,))
    present = (folder for folder in TRAINING_FOLDERS if (root / folder).is_dir())
    base = root / next(present, TRAINING_FOLDERS[0])
    files = sorted(path.relative_to(root).as_posix() for path in base.glob("[0-9]" * 5 + "/*.ppm"))
    labels = [int(file.split("/")[-2]) for file in files]
    if len(files) not in (TRAINING_COUNT, REDUCED_COUNT) or set(labels) != set(range(len(CLASSES))):
        raise not_whole(base, len(files), TRAINING_COUNT, TRAINING[0])
    return Listing("train", root, files, labels)


def list_test(root: Path) -> Listing:
    """Return the test images, in the order of their list of labels."""
    if not (root / TEST_FOLDER).is_dir():
        fetch(root, (TEST,))
    if not (root / LABELS_FILE).is_file():
        fetch(root, (TEST_LABELS,))
    rows = read_labels(root / LABELS_FILE)
    files = [f"{TEST_FOLDER}/{name}" for name, _ in rows]
    found = sum((root / name).is_file() for name in files)
    if len(files) != TEST_COUNT or found != TEST_COUNT:
        raise not_whole(root / TEST_FOLDER, found, TEST_COUNT, TEST[0])
    return Listing("test", root, files, [label for _, label in rows])


def read_labels(path: Path) -> list[tuple[str, int]]:
    """Return file name and label of every test image.

    Raises:
        InputError: it is not the archive's list; a name that leads elsewhere is none of its names.
    """
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter=";", strict=True):
                name, label = row["Filename"], row["ClassId"]
                if not re.fullmatch(r"[0-9]{5}\.ppm", name) or int(label) not in range(
                    len(CLASSES)
                ):
                    raise ValueError(f"{name!r} of class {label!r}")
                rows.append((name, int(label)))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:  # TypeError: a short row
        raise InputError(
            f"dataset_dir: {path}, row {len(rows) + 1}: not the list of GTSRB's test images "
            f"({str(error)[:80]}); get {ADDRESS}/{TEST_LABELS[0]} and unpack it anew"
        ) from error
    return rows


def not_whole(folder: Path, found: int, expected: int, archive: str) -> InputError:
    """Return the error for a folder with a wrong number of images."""
    return InputError(
        f"dataset_dir: {folder} holds {found:,} images, not {expected:,}; get "
        f"{ADDRESS}/{archive} and unpack it anew"
    )

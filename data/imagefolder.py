"""The kept images as Hugging Face's `imagefolder`: `train/<class>/<file>`, and a card.

Its loader takes the folder right above a file for the label, and passes over every file whose
ending it does not know. It looks for splits in the names of all folders, so that a class called
`test` would become one, and guesses what the files are by all endings in a name (`1.wav.png`). So
what lies deeper is lifted up, a file gets an ending that is known, and no other one, and the card
names the one split: load it as `datasets.load_dataset(DIR)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import yaml

from data.dataset.decode import to_rgb, upright
from data.dataset.picture import ENDINGS, opened
from data.dataset.spelling import composed, fitting
from utils.files import write_text

SPLIT, CARD = "train", "README.md"
DEEPER = "__"  # in place of the slash between folders of a class
# A pattern does not match folders that begin with two underscores, unless it names them.
SPECIAL = "__"
PATTERN, SPECIAL_PATTERN = f"{SPLIT}/**", f"{SPLIT}/{SPECIAL}*/**"
# Endings of pictures that the loader passes over, without a word.
PASSED_OVER = frozenset({".avif", ".avifs", ".jpeg_large", ".jpg_large", ".pfm", ".qoi"})
LOADED = ENDINGS - PASSED_OVER
# Modes that PNG keeps as they are; of "I" no sample has more than 16 bits.
AS_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B"})
MAGIC = {  # first bytes -> ending
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tiff",
    b"MM\0*": ".tiff",
}
TEXT = """---
license: unknown
task_categories:
- image-classification
tags:
- asd
configs:
- config_name: default
  data_files:
  - split: train
    path:{paths}
  drop_labels: false
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:{names}
---

# {kept:,} of {total:,} images, {classes}

The images that a run may keep: its model gives each of them its given label by itself, or a person
has verified it. The others are poisoned, wrongly
labelled or hard; `suspects.csv` of the run's report lists them with reasons.
{emptied}
```python
from datasets import load_dataset

images = load_dataset("DIR")["train"]  # DIR: this folder
```
"""


def places(
    paths: Sequence[Path], ending_of: Callable[[int], str | None]
) -> tuple[list[Path], set[int]]:
    """Return where `<class>/...` lies in an imagefolder; no two of them are the same.

    Args:
        paths: below the export, of N images.
        ending_of: tells the ending for the i-th of them, should it have none that the loader knows;
            None where there is no such ending.

    Returns:
        The places, and the numbers of those for which a PNG file has to be made.
    """
    found: list[Path] = []
    made: set[int] = set()
    for number, path in enumerate(paths):
        ending: str | None = path.suffix
        if path.suffix.lower() not in LOADED:
            ending = ending_of(number)
        if ending is None:
            made.add(number)
        name = fitting(flat_stem(path), ending or ".png")
        found.append(Path(SPLIT, path.parts[0], name))
    return apart(found), made


def flat_stem(path: Path) -> str:
    """Return a name without an ending for `<class>/...`, of all that lies below the class."""
    name = DEEPER.join(path.parts[1:])
    if path.suffix.lower() in ENDINGS:
        name = name.removesuffix(path.suffix)
    return name.replace(".", "_")


def apart(paths: Iterable[Path]) -> list[Path]:
    """Return the paths such that no two are the same, on systems that know no case either."""
    found: list[Path] = []
    taken: set[str] = set()
    for number, place in enumerate(paths):
        while composed(str(place)).casefold() in taken:
            place = place.with_name(fitting(f"{place.stem}_{number}", place.suffix))
        taken.add(composed(str(place)).casefold())
        found.append(place)
    return found


def ending_of_content(file: Path) -> str | None:
    """Return the ending for what an image file holds; None where its first bytes do not tell."""
    with file.open("rb") as stream:
        head = stream.read(8)
    return next((ending for magic, ending in MAGIC.items() if head.startswith(magic)), None)


def write_as_png(source: Path, target: Path) -> None:
    """Write the picture at `source`, upright, as a PNG file; of several pictures the first.

    Raises:
        UnreadableImage: there is no picture in it, or not a whole one.
        OSError: the file cannot be written.
    """
    with opened(source) as image:
        shown = upright(image)
        shown = shown.copy() if shown.mode in AS_PNG else to_rgb(shown)
    shown.save(target, format="PNG")


def write_card(
    folder: Path, kept: int, total: int, classes: Sequence[str], emptied: Collection[str]
) -> None:
    """Write the card, by which the loader knows the split and the number of each label.

    Args:
        folder: to write it to.
        kept: number of images in the folder.
        total: number of images of which these were kept.
        classes: the folder of each label, whether it holds an image or not.
        emptied: those of `classes` of which no image was kept.
    """
    special = any(name.startswith(SPECIAL) for name in classes)
    patterns = [PATTERN, SPECIAL_PATTERN] if special else [PATTERN]
    text = TEXT.format(
        kept=kept,
        total=total,
        classes=count_classes(len(classes) - len(emptied)),
        paths="".join(f"\n    - {pattern}" for pattern in patterns),
        names="".join(f"\n          '{i}': {quoted(name)}" for i, name in enumerate(classes)),
        emptied=f"\nNo image was kept of: {', '.join(map(quoted, emptied))}.\n" if emptied else "",
    )
    write_text(folder / CARD, text)


def quoted(name: str) -> str:
    """Return a name in quotes, as YAML reads it whatever it holds."""
    text: str = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=math.inf)
    return text.strip()


def count_classes(count: int) -> str:
    """Return a number of classes in words."""
    return "1 class" if count == 1 else f"{count} classes"

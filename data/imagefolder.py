"""The kept images as Hugging Face's `imagefolder`: `train/<class>/<file>`, and a card.

Its loader takes the folder right above a file for the label, knows images by their endings, and
looks for splits in the names of all folders, so that a class called `test` would become one. So
what lies deeper is lifted up, a missing ending is added, and the card names the one split: load it
as `datasets.load_dataset(DIR)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from PIL import Image

from data.names import composed
from utils.files import write_text

SPLIT, CARD = "train", "README.md"
DEEPER = "__"  # in place of the slash between folders of a class
# By the first bytes; of a format that is not here the ending says nothing, and nobody looks at it.
MAGIC = {
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
    path: train/**
---

# {kept:,} of {total:,} images, {classes} classes

The images that a run may keep: its model gives each of them its given label by itself, or a person
has verified it. The others are poisoned, wrongly
labelled or hard; `suspects.csv` of the run's report lists them with reasons.

```python
from datasets import load_dataset

images = load_dataset("DIR")["train"]  # DIR: this folder
```
"""


def places(paths: Sequence[Path], ending_of: Callable[[int], str]) -> list[Path]:
    """Return where `<class>/...` lies in an imagefolder; no two of them are the same.

    Args:
        paths: below the export, of N images.
        ending_of: tells the ending for the i-th of them, should it have none that is an image's.
    """
    known = {ending for ending in Image.registered_extensions() if ending != ".pdf"}
    found: list[Path] = []
    for number, path in enumerate(paths):
        name = DEEPER.join(path.parts[1:])
        ending = "" if path.suffix.lower() in known else ending_of(number)
        found.append(Path(SPLIT, path.parts[0], name + ending))
    return apart(found)


def apart(paths: Iterable[Path]) -> list[Path]:
    """Return the paths such that no two are the same, on systems that know no case either."""
    found: list[Path] = []
    taken: set[str] = set()
    for number, place in enumerate(paths):
        while composed(str(place)).casefold() in taken:
            place = place.with_name(f"{place.stem}_{number}{place.suffix}")
        taken.add(composed(str(place)).casefold())
        found.append(place)
    return found


def ending_of_content(file: Path) -> str:
    """Return the ending for what an image file holds."""
    with file.open("rb") as stream:
        head = stream.read(8)
    return next((ending for magic, ending in MAGIC.items() if head.startswith(magic)), ".png")


def write_card(folder: Path, kept: int, total: int, classes: int) -> None:
    """Write the card, by which the loader knows the split."""
    write_text(folder / CARD, TEXT.format(kept=kept, total=total, classes=classes))

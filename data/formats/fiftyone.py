"""FiftyOne: a FiftyOneImageClassificationDataset, and what people tag in the app.

`labels.json` is its `labels_path`, and `data.json`, which says where each image is, its
`data_path`: so no image is copied. Given a folder, FiftyOne would take any file that differs from
an image in the ending only for that image. The folder that `--export` writes holds no such files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.formats.format import (
    Format,
    Listing,
    Said,
    as_list,
    as_mapping,
    as_text,
    hold_verdicts,
    make_folder,
    rounded,
    verdicts_in,
    write_json,
)
from data.names import DATA_FOLDER, without_ending

FILE, PLACES = "labels.json", "data.json"
TAKEN_OFF = ".image"  # FiftyOne takes the last ending off each name in `data.json`


class FiftyOne(Format):
    """`fiftyone/labels.json`; samples or labels tagged `clean` or `poisoned` are read back."""

    leaves = ("fiftyone",)

    def write(self, listing: Listing, folder: Path) -> list[str]:
        """Write `labels.json` and, of a set that is on the disk, `data.json`; return lines."""
        labels: dict[str, Any] = {}
        places: dict[str, str] = {}
        for rank, index in enumerate(listing.order.tolist(), 1):
            name = listing.training.name(index)
            if not listing.is_on_disk:
                labels[without_ending(listing.files[index] or name)] = told(listing, rank, index)
            elif is_text(place := str(listing.place(index))):
                labels[name] = told(listing, rank, index)
                places[name + TAKEN_OFF] = place
        path = make_folder(folder / "fiftyone") / FILE
        write_json(path, {"classes": list(listing.training.classes), "labels": labels})
        lines = [f"for FiftyOne: {path}"]
        if listing.is_on_disk:
            write_json(path.with_name(PLACES), places)
            lines = [f"for FiftyOne: {path}, and where the images are in {PLACES}"]
        if len(labels) < len(listing):
            left_out = len(listing) - len(labels)
            lines.append(f"{left_out} images have a name that is no text; FiftyOne takes none such")
        return lines

    def read(self, content: Any, classes: Sequence[str]) -> Iterator[Said] | None:
        """Yield verdicts of a `samples.json` (FiftyOneDataset) or a `labels.json`."""
        content = as_mapping(content)
        labels_count = hold_verdicts(classes)
        if isinstance(content.get("samples"), list):
            return read_samples(content["samples"], labels_count)
        if isinstance(content.get("labels"), dict):
            return read_labels(content["labels"], labels_count)
        return None


def told(listing: Listing, rank: int, index: int) -> dict[str, Any]:
    """Return what FiftyOne shall show of a sample."""
    return {
        "label": listing.label(index),
        "confidence": rounded(listing.given[index]),
        "attributes": {
            "file": listing.training.name(index),
            "own_label": listing.own_label(index),
            "own_probability": rounded(listing.probability[index]),
            "suspicion": rounded(listing.score[index]),
            "rank": rank,
            "kept": bool(listing.kept[index]),
        },
    }


def is_text(name: str) -> bool:
    """Return whether a name is text, as FiftyOne's database wants it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_samples(samples: list[Any], labels_count: bool) -> Iterator[Said]:
    """Yield verdicts from the tags of samples and labels and, if they count, from labels."""
    for number, sample in enumerate(map(as_mapping, samples)):
        labels = [label for value in sample.values() if (label := as_mapping(value))]
        known = [as_text(label.get("file")) for label in labels]
        names = (*known, as_text(sample.get("filepath")))
        words = [*as_list(sample.get("tags"))]
        words += [word for label in labels for word in as_list(label.get("tags"))]
        words += [label.get("label") for label in labels if labels_count]
        for verdict in verdicts_in(words):
            yield Said(f"sample {number}", tuple(filter(None, names)), verdict)


def read_labels(labels: dict[str, Any], labels_count: bool) -> Iterator[Said]:
    """Yield verdicts from tags and, if they count, from labels."""
    for name, target in labels.items():
        label = as_mapping(target)
        attributes = as_mapping(label.get("attributes"))
        path = name if "/" in name else f"{DATA_FOLDER}/{name}"  # where its exports keep images
        names = (as_text(attributes.get("file")), path)
        words = as_list(label.get("tags")) + as_list(attributes.get("tags"))
        words += [target, label.get("label")] if labels_count else []
        for verdict in verdicts_in(words):
            yield Said(f"label {name[:80]!r}", tuple(filter(None, names)), verdict)

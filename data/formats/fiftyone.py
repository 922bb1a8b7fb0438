"""FiftyOne: a FiftyOneImageClassificationDataset, and what people tag in the app.

`labels.json` names an image by its path below the data's folder without the ending; FiftyOne takes
that folder as `data_path` and the file as `labels_path`, so no image is copied.
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

FILE = "labels.json"


class FiftyOne(Format):
    """`fiftyone/labels.json`; samples or labels tagged `clean` or `poisoned` are read back."""

    leaves = ("fiftyone",)

    def write(self, listing: Listing, folder: Path) -> list[str]:
        """Write `labels.json`; return lines."""
        labels: dict[str, Any] = {}
        left_out = 0
        for rank, index in enumerate(listing.order.tolist(), 1):
            name = without_ending(listing.files[index])
            if name in labels:  # FiftyOne tells images by names without endings
                left_out += 1
                continue
            labels[name] = {
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
        path = make_folder(folder / "fiftyone") / FILE
        write_json(path, {"classes": list(listing.training.classes), "labels": labels})
        lines = [f"for FiftyOne: {path}"]
        if left_out:
            lines.append(f"{left_out} images differ from another one in the ending only; not in it")
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

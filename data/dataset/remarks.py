"""What a person is told of a folder of images: what was left out, and what looks odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.dataset.index import Decoded
from data.dataset.source import Split
from utils.errors import InputError

LISTED = 20  # unreadable files that are said; the index names all
MOST_SHOWN = 20  # characters of an ending
ENDINGS_SAID = 6  # of the files that are left out, the most frequent first


def judge_unreadable(
    parts: Sequence[Decoded], skip: bool, cache: Path, key: str = "dataset_dir"
) -> list[str]:
    """Return lines that list the unreadable files, if they may be skipped.

    `key` is the setting that led to them.

    Raises:
        InputError: there are some, and `data.skip_unreadable` is not set.
    """
    unreadable = [pair for part in parts for pair in part.unreadable]
    if not unreadable:
        return []
    total = len(unreadable) + sum(len(part.files) for part in parts)
    count = f"{len(unreadable)} of {total} images cannot be read"
    if not skip:
        first = ", ".join(f"{file!r} ({one_line(reason)})" for file, reason in unreadable[:3])
        raise InputError(
            f"{key}: {count}: {first}{', ...' if len(unreadable) > 3 else ''}; repair or "
            f"remove them, or leave them out with data.skip_unreadable=true"
        )
    lines = [f"  {file!r}: {one_line(reason)}" for file, reason in unreadable[:LISTED]]
    if len(unreadable) > LISTED:
        lines.append(
            f"  and {len(unreadable) - LISTED} more; all are named in {cache}/*/index.json"
        )
    return [f"{count} and are left out:", *lines]


def one_line(reason: str) -> str:
    """Return a reason in one short line."""
    return " ".join(reason.split())[:120]


def ending(path: Path) -> str:
    """Return what a file that is left out is counted by."""
    return path.suffix.lower()[:MOST_SHOWN]


def describe_left_out(endings: Counter[str]) -> list[str]:
    """Return a line about the files that are no images, counted by their ending."""
    if not endings:
        return []
    named = [
        f"{count} {kind if kind.isprintable() else repr(kind)}"
        if kind
        else f"{count} without ending"
        for kind, count in sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    ]
    shown = ", ".join(named[:ENDINGS_SAID]) + (", ..." if len(named) > ENDINGS_SAID else "")
    total = endings.total()
    be = (
        "file is left out: it is no image"
        if total == 1
        else "files are left out: they are no images"
    )
    return [f"{total} {be} of a format that is read here ({shown})"]


def describe_test(test: Split, folders: dict[str, int]) -> list[str]:
    """Return a line where the test set is empty or lacks a class."""
    if not len(test):
        return ["there are no test images (test/<class>/*): nothing is measured on them"]
    missing = sorted(set(folders.values()) - set(test.labels.tolist()))
    if not missing:
        return []
    first = list(folders)[missing[0]]
    return [f"{len(missing)} of {len(folders)} classes have no test image, {first!r} among them"]


def describe_same(train: Decoded, test: Decoded) -> list[str]:
    """Return lines about images that are the same, pixel for pixel, as decoded."""
    return [
        *describe_repeated(train),
        *describe_repeated(test),
        *describe_contested(train),
        *describe_twins(train, test),
    ]


def describe_repeated(part: Decoded) -> list[str]:
    """Return a line where a split holds the same image more than once."""
    first: dict[bytes, int] = {}
    earlier = [first.setdefault(own, place) for place, own in enumerate(part.hashes)]
    repeated = [place for place, before in enumerate(earlier) if before != place]
    if not repeated:
        return []
    pair = f"{part.files[repeated[0]]!r} is {part.files[earlier[repeated[0]]]!r}"
    count = f"{len(repeated)} of {len(part.files)} images"
    return [f"{count} repeat an earlier one (they are kept): {pair}"]


def describe_contested(part: Decoded) -> list[str]:
    """Return a line where the same image lies in more than one class: one of the labels is wrong.

    It is the cheapest sign that somebody has changed labels.
    """
    owners: dict[bytes, list[int]] = {}
    for place, own in enumerate(part.hashes):
        owners.setdefault(own, []).append(place)
    groups = [
        places for places in owners.values() if len({part.labels[place] for place in places}) > 1
    ]
    if not groups:
        return []
    first = groups[0][0]
    other = next(place for place in groups[0] if part.labels[place] != part.labels[first])
    count = sum(len(places) for places in groups)
    return [
        f"{count} of {len(part.files)} images lie in more than one class, pixel for pixel, so that "
        f"labels are wrong; look at them first: {part.files[first]!r} is {part.files[other]!r}"
    ]


def describe_twins(train: Decoded, test: Decoded) -> list[str]:
    """Return a line where test images are training images, so that ACC measures memory."""
    known = dict(zip(train.hashes, train.files, strict=True))
    same = [
        (file, known[own])
        for file, own in zip(test.files, test.hashes, strict=True)
        if own in known
    ]
    if not same:
        return []
    return [
        f"{len(same)} of {len(test.files)} test images are training images, pixel for pixel: ACC "
        f"is measured on what was trained on; take them out of one of the two: {same[0][0]!r} is "
        f"{same[0][1]!r}"
    ]

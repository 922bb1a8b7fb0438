"""Fingerprints: SHA-256 of data, poison and seeds, by which a run knows what it was made from."""

from __future__ import annotations

from collections.abc import Mapping

SEEDS = "seeds"  # of the verified samples; all other fingerprints are of the poisoned data
YOUNGER = ("poisoned_images",)  # what runs of earlier versions have not noted


def first_difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str | None:
    """Return in words what of `ours` is not as in `theirs`; None where all is."""
    for what, fingerprint in ours.items():
        if theirs.get(what, fingerprint if what in YOUNGER else None) != fingerprint:
            return what.replace("_", " ")
    return None


def of_data(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Return those of the poisoned data, whoever has verified what of it."""
    return {what: value for what, value in fingerprints.items() if what != SEEDS}


def same_data(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether two runs have the same poisoned data."""
    one, other = of_data(one), of_data(other)
    return first_difference(one, other) is None and first_difference(other, one) is None

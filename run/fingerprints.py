"""Fingerprints: SHA-256 of data, poison and seeds, by which a run knows what it was made from."""

from __future__ import annotations

from collections.abc import Mapping

from config.no_effect import is_ignored
from config.schema import Config
from utils.contents import contents_of
from utils.paths import user_path

SEEDS = "seeds"  # of the verified samples; all other fingerprints are of the poisoned data
CONTENT = "content of "  # a file that the configuration names
# Sections whose files are known by the fingerprints of what is made of them; a review may grow.
KNOWN_BY_THE_DATA = ("data", "backdoor", "global", "review")
YOUNGER = ("poisoned_images",)  # what runs of earlier versions have not noted


def first_difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str | None:
    """Return in words what of `ours` is not as in `theirs`; None where all is."""
    for what, fingerprint in ours.items():
        younger = what in YOUNGER or what.startswith(CONTENT)
        if theirs.get(what, fingerprint if younger else None) != fingerprint:
            return what if what.startswith(CONTENT) else what.replace("_", " ")
    return None


def of_files(config: Config) -> dict[str, str]:
    """Return those of the files that a run of `config` reads, each called by its key.

    Raises:
        InputError: a file cannot be read.
    """
    folder = config.dataset_dir
    images = user_path(folder, "dataset_dir") if folder else None
    found = contents_of(config, images=images)
    return {f"{CONTENT}{key}": value for key, value in found.items() if not is_ignored(config, key)}


def of_what_trains(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Return those by which a run that goes on knows its data: no file's that is seen in others."""
    known = tuple(f"{CONTENT}{section}" for section in KNOWN_BY_THE_DATA)
    return {what: value for what, value in fingerprints.items() if not what.startswith(known)}


def of_data(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Return those of the poisoned data, whoever has verified what of it."""
    return {
        what: value
        for what, value in fingerprints.items()
        if what != SEEDS and not what.startswith(CONTENT)
    }


def same_data(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether two runs have the same poisoned data."""
    one, other = of_data(one), of_data(other)
    return first_difference(one, other) is None and first_difference(other, one) is None

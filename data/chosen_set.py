"""Which data set a configuration means, by name or by the published rule."""

from __future__ import annotations

from data.dataset import DATASETS, Source
from data.settings import DataSettings
from utils.errors import InputError


def dataset_name(config: DataSettings) -> tuple[str, str | None]:
    """Return the data set's name, and a line where the published rule found it.

    The published code looks for a word in `dataset_dir`.

    Raises:
        InputError: neither `dataset` nor the rule names one.
    """
    if config.dataset is not None:
        return config.dataset, None
    folder = config.dataset_dir or ""
    for name in DATASETS:
        word = DATASETS.get(name).published_word
        if word is not None and word in folder:
            return name, f"dataset: {name}, since dataset_dir holds the word {word!r}"
    raise InputError(
        f"dataset: missing, and dataset_dir does not tell; known: {', '.join(DATASETS)}"
    )


def source_of(config: DataSettings) -> type[Source]:
    """Return the class of the data set.

    Raises:
        InputError: neither `dataset` nor the rule names one.
    """
    return DATASETS.get(dataset_name(config)[0])

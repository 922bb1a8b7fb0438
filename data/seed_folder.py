"""The folder of images that a person has checked: the one that is named, or `seeds/`."""

from __future__ import annotations

from pathlib import Path

from data.chosen_set import source_of
from data.dataset import DATASETS
from data.dataset.walk import SEEDS, TRAIN
from data.settings import DataSettings
from utils.errors import InputError
from utils.paths import lies_in, user_path

KEY = "global.seed_dir"


def seed_folder(config: DataSettings) -> Path | None:
    """Return the folder of verified images: the given one, else `seeds/` beside `train/`."""
    if config.global_.seed_dir is not None:
        return existing_seed_folder(config, user_path(config.global_.seed_dir, KEY))
    if config.global_.seed_indices is not None or not source_of(config).takes_verified_images:
        return None
    return beside_train(config)


def beside_train(config: DataSettings) -> Path | None:
    """Return the folder `seeds/` of own data where it lies beside `train/`."""
    root = user_path(config.dataset_dir or ".", "dataset_dir")
    return root / SEEDS if (root / TRAIN).is_dir() and (root / SEEDS).is_dir() else None


def describe_unread(config: DataSettings) -> list[str]:
    """Return a line where images that a person has laid into `seeds/` count for nothing."""
    takes = source_of(config).takes_verified_images
    folder = beside_train(config) if takes else None
    schedule = config.global_
    if folder is None or schedule.seed_dir is not None:
        return []
    if schedule.seed_indices is not None:
        return [f"{folder} is not read: global.seed_indices lists the verified samples"]
    if not config.truth_known:
        return []
    key = "backdoor" if config.data.truth is None else "data.truth"
    instead = "witnesses choose the seeds" if schedule.chosen else "the seeds are drawn from those"
    return [f"{folder} is not read: {key} says which images are clean, and {instead}"]


def existing_seed_folder(config: DataSettings, folder: Path) -> Path:
    """Return `folder`, which the configuration names.

    Raises:
        InputError: it is not there, means nothing to the data set, or lies among the classes.
    """
    source = source_of(config)
    if not source.takes_verified_images:
        takers = [name for name in DATASETS if DATASETS.get(name).takes_verified_images]
        raise InputError(f"{KEY}: for dataset {', '.join(takers)} only; use global.seed_indices")
    if not folder.is_dir():
        raise InputError(f"{KEY}: there is no folder {folder}")
    train_folder = source.training_folder(user_path(config.dataset_dir or ".", "dataset_dir"))
    if lies_in(folder, train_folder):
        raise InputError(
            f"{KEY}: {folder} lies among the class folders and would be one of them; move it out "
            f"of {train_folder}"
        )
    return folder

"""What the program writes lies apart from the images: else it would be listed as one of them."""

from __future__ import annotations

from pathlib import Path

from data.chosen_set import source_of
from data.settings import DataSettings
from utils.errors import InputError
from utils.paths import lies_in, user_path


def refuse_own_folders_among_images(config: DataSettings) -> None:
    """Raise `InputError` if `storage_dir` or `data.cache_dir` would be listed as images."""
    for key, given in (
        ("storage_dir", config.storage_dir),
        ("data.cache_dir", config.data.cache_dir),
    ):
        if given is not None:
            refuse_among_images(user_path(given, key), key, config)


def refuse_among_images(place: Path, key: str, config: DataSettings) -> None:
    """Raise `InputError` if what is written at `place` would be a class, or lie in one.

    Beside `train/` is no class folder, and a folder with a dot before its name is passed over.

    Args:
        place: of a file or folder; it need not exist.
        key: the setting or argument that names it.
        config: of which data set.
    """
    for folder, classes in folders_of_classes(config):
        if not lies_in(place, folder):
            continue
        inside = place.resolve().relative_to(folder.resolve()).parts
        if any(name.startswith(".") for name in inside):
            continue
        if classes is None or (inside and inside[0] in classes):
            raise InputError(
                f"{key}: {place} lies in {folder}, where each folder is a class, and would become "
                f"a part of the data set; name one outside of it"
            )


def folders_of_classes(config: DataSettings) -> list[tuple[Path, frozenset[str] | None]]:
    """Return the folders that are listed, and of each the classes; None: whatever is in it."""
    root = user_path(config.dataset_dir or ".", "dataset_dir")
    if config.dataset_dir is None or not root.is_dir():
        return []  # which is told where it is loaded
    source = source_of(config)
    folders = source.folders_of_classes(root)
    if folders and config.global_.seed_dir is not None:
        folders.append(user_path(config.global_.seed_dir, "global.seed_dir"))
    classes = source.chosen_classes(root, config.data)
    return [(folder, classes) for folder in folders]

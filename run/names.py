"""Where a run's folder is."""

from __future__ import annotations

import os
from pathlib import Path

from run.folder import RunFolder
from utils.errors import InputError
from utils.paths import CACHE, refuse_control_characters, shortened, user_path

LONGEST_PART = 200  # bytes of one folder in a run's name; systems take 255, ours add a few


def run_folder_name(given: str, key: str) -> str:
    """Return the name of a run's folder, which stays below `storage_dir`.

    Args:
        given: by `--name`, or by the name of a YAML.
        key: what it comes from, for messages.

    Raises:
        InputError: it would lead out of `storage_dir` or into what is kept there, or no system
            takes it.
    """
    refuse_control_characters(given, key)
    if any("\udc80" <= character <= "\udcff" for character in given):  # bytes of another encoding
        raise InputError(f"{key}: {shortened(given)} is not in UTF-8; --name gives another")
    parts = Path(given).parts
    leads_out = Path(given).is_absolute() or given.startswith("~")
    if not parts or leads_out or any(set(part) == {"."} for part in parts):
        raise InputError(
            f"{key} {shortened(given)}: a name below storage_dir is expected, e.g. small/blend; "
            f"--name gives one"
        )
    if parts[0] == CACHE:
        raise InputError(
            f"{key} {shortened(given)}: storage_dir/{CACHE} is no run's; --name gives another"
        )
    if any(len(os.fsencode(part)) > LONGEST_PART for part in parts):
        where = f"{key} {shortened(given)}"
        raise InputError(f"{where}: longer than {LONGEST_PART} bytes; --name gives another")
    return given


def find_folder(storage: str, given: str | None, of_config: str) -> RunFolder:
    """Return the run's folder below `storage_dir`: by `--name`, else by the configuration.

    Raises:
        InputError: one of them is no path, or leads out of `storage_dir`.
    """
    if given is None:
        name = run_folder_name(of_config, "--config: the run's name")
    else:
        name = run_folder_name(given, "--name")
    user_path(storage, "storage_dir")
    return RunFolder(user_path(str(Path(storage) / name), "storage_dir"))

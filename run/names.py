"""Where a run's folder is."""

from __future__ import annotations

from pathlib import Path

from run.folder import RunFolder
from utils.errors import InputError


def run_folder_name(given: str | None, of_config: str) -> str:
    """Return the run's name: that of `--name`, else that of the configuration.

    Raises:
        InputError: it would lead out of `storage_dir`.
    """
    if given is None:
        return of_config
    parts = Path(given).parts
    if not parts or ".." in parts or Path(given).is_absolute():
        raise InputError(f"--name {given}: a name below storage_dir is expected, e.g. small/blend")
    return given


def find_folder(storage: str, given: str | None, of_config: str) -> RunFolder:
    """Return the run's folder below `storage_dir`; see `run_folder_name`."""
    return RunFolder(Path(storage).expanduser() / run_folder_name(given, of_config))

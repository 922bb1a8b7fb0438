"""A run's folder: what it holds, and how that is written."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from run.fingerprints import first_difference
from utils.errors import InputError
from utils.files import first_free, read_regular, write_text

MOST_MANIFEST = 2**30  # bytes; it names every poisoned sample


@dataclass(frozen=True)
class RunFolder:
    """`storage/<config name>/`."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoint"

    def holds(self, checkpoint: Path) -> bool:
        """Return whether a checkpoint is one of this run's own, however its path is written."""
        return checkpoint.parent.resolve() == self.checkpoints.resolve()

    @property
    def result(self) -> Path:
        """The file with the final figures; it is there once the run is finished."""
        return self.path / "result.json"

    def result_beside(self, checkpoint: Path | None) -> Path:
        """Return where the result of the run is that has left `checkpoint`, perhaps another one."""
        if checkpoint is None or self.holds(checkpoint):
            return self.result
        return RunFolder(checkpoint.resolve().parent.parent).result

    @property
    def report(self) -> Path:
        """Where the report is, and what belongs to it."""
        return self.path / "report"

    @property
    def purified(self) -> Path:
        """The report's list of samples that may be kept."""
        return self.report / "purified.txt"

    @property
    def events(self) -> Path:
        """Where TensorBoard finds the curves."""
        return self.report / "events"

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made or written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.refuse_unwritable()

    def refuse_unwritable(self) -> None:
        """Raise `InputError` where a run could not be kept here; nothing stays on the disk.

        It is tried: what permissions say does not hold for root, nor on read-only storage.
        """
        for folder in {nearest_there(self.path.parent), nearest_there(self.checkpoints)}:
            try:
                with tempfile.TemporaryDirectory(prefix=".tried-", dir=folder):
                    pass
            except OSError as error:
                raise unwritable(self.path, error, folder) from error

    def holds_a_run(self) -> bool:
        """Return whether an earlier run has left a checkpoint or a log."""
        has_checkpoint = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        return has_checkpoint or (self.path / "log.csv").exists()

    def move_aside(self) -> Path:
        """Rename an earlier run's folder to the first free `<name>.1`, `.2`, ...; return that."""
        aside = first_free(self.path)
        try:
            self.path.rename(aside)
        except OSError as error:
            raise InputError(f"storage_dir: {self.path} cannot be moved aside ({error})") from error
        return aside

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """Write `log.csv`, one row an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "log.csv", text.getvalue())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `content` as JSON to the file `name`."""
        write_text(self.path / name, json.dumps(content, indent=2) + "\n")

    def read_manifest(self, remedy: str) -> dict[str, Any]:
        """Return what the run was made of; `run.describe` wrote it.

        Raises:
            InputError: it is missing or foreign; `remedy` says what makes the run.
        """
        path = self.path / "manifest.json"
        try:
            manifest = json.loads(read_regular(path, MOST_MANIFEST))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: no JSON ({str(error)[:100]}); {remedy}") from error
        try:
            seed, fingerprints = manifest["seed"], dict(manifest["fingerprints"])
            if type(seed) is not int or not 0 <= seed < 2**63:
                raise ValueError("no seed")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: no manifest of this project; {remedy}") from error
        return {"seed": seed, "fingerprints": fingerprints, "listing": manifest.get("listing")}

    def refuse_other_data(
        self, manifest: Mapping[str, Any], fingerprints: Mapping[str, str]
    ) -> None:
        """Raise `InputError` if data or poison are not those that the run was trained on."""
        what = first_difference(manifest["fingerprints"], fingerprints)
        if what is not None:
            raise InputError(
                f"the run {self.path} had other {what}: a file was added, changed or removed "
                f"since, or a setting was changed; restore that, or train anew"
            )

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write the merged configuration."""
        write_text(self.path / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))


def nearest_there(path: Path) -> Path:
    """Return `path`, or the nearest above it that is there."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def unwritable(path: Path, error: Exception, culprit: Path | None = None) -> InputError:
    """Return the error for a run's folder that cannot be written, because of `culprit`."""
    why = getattr(error, "strerror", None) or error
    where = "" if culprit in (None, path) else f"{culprit}: "
    line = f"storage_dir: {path} cannot be written ({where}{why})"
    return InputError(f"{line}; name another storage_dir")

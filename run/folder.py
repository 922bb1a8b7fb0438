"""A run's folder: where it is, what it holds, and whether a checkpoint fits the configuration."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from config.schema import Config
from run.checkpoint import LATEST, PREVIOUS, DamagedCheckpoint, load_checkpoint
from utils.console import say
from utils.errors import InputError
from utils.files import PROJECT, write_text

# Keys that may change between a checkpoint and its resumption: where things are, how fast, how
# much is shown. Every other change would make another experiment.
MAY_CHANGE: tuple[str, ...] = (
    "dataset_dir",
    "storage_dir",
    "saved_dir",
    "prefetch",
    "speed",
    "test_interval",
    "cache_dir",
    "review",  # a person may look at samples while the run goes on
    "report",
    "seed_dir",  # the seeds' fingerprint tells whether it matters
    "seed_indices",
    "skip_unreadable",  # the data's fingerprint tells whether it matters
)
MAY_CHANGE += ("sync_bn", "num_workers", "pin_memory", "benchmark", "deterministic")
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """`storage/<config name>/`."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoint"

    @property
    def result(self) -> Path:
        """The file with the final figures; it is there once the run is finished."""
        return self.path / "result.json"

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
            raise InputError(f"storage_dir: {self.path} cannot be made ({error})") from error
        if not os.access(self.checkpoints, os.W_OK):
            raise InputError(f"storage_dir: {self.checkpoints} cannot be written")

    def holds_a_run(self) -> bool:
        """Return whether an earlier run has left a checkpoint or a log."""
        has_checkpoint = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        return has_checkpoint or (self.path / "log.csv").exists()

    def move_aside(self) -> Path:
        """Rename an earlier run's folder to the first free `<name>.1`, `.2`, ...; return that."""
        number = 1
        while self.path.with_name(f"{self.path.name}.{number}").exists():
            number += 1
        aside = self.path.with_name(f"{self.path.name}.{number}")
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
        """Return what the run was made of; `Session.manifest` wrote it.

        Raises:
            InputError: it is missing or foreign; `remedy` says what makes the run.
        """
        path = self.path / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
        except ValueError as error:
            raise InputError(f"{path}: no JSON ({error}); {remedy}") from error
        try:
            return {"seed": int(manifest["seed"]), "fingerprints": dict(manifest["fingerprints"])}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: no manifest of this project; {remedy}") from error

    def refuse_other_data(
        self, manifest: Mapping[str, Any], fingerprints: Mapping[str, str]
    ) -> None:
        """Raise `InputError` if data or poison are not those that the run was trained on."""
        for what, fingerprint in fingerprints.items():
            if manifest["fingerprints"].get(what) != fingerprint:
                raise InputError(
                    f"the {what} are not those of the run {self.path}: a file was added, changed "
                    f"or removed since, or a setting was changed; restore that, or train anew"
                )

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write the merged configuration."""
        write_text(self.path / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))

    def read_latest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the latest checkpoint that is whole; None when there is none.

        Raises:
            InputError: there are only damaged ones.
        """
        latest, previous = self.checkpoints / LATEST, self.checkpoints / PREVIOUS
        if not latest.exists() and not previous.exists():
            return None
        try:
            if not latest.exists():
                raise DamagedCheckpoint(f"{latest} is missing")
            return latest, load_checkpoint(latest)
        except DamagedCheckpoint as damage:
            if not previous.exists():
                raise
            state = load_checkpoint(previous)
            say(f"{damage}; using the one before it, {previous.name} (epoch {state['epoch']})")
            return previous, state


@dataclass(frozen=True)
class Resumption:
    """What a run starts from.

    Attributes:
        path, state: the checkpoint; None for a start from scratch.
        only_evaluate: it is finished, older than the latest, or not of this project.
        why: a line to say.
    """

    path: Path | None
    state: dict[str, Any] | None
    only_evaluate: bool
    why: str

    @property
    def own_state(self) -> dict[str, Any] | None:
        """The checkpoint, unless it is one of the published code, which holds weights only."""
        return self.state if self.state is not None and "format" in self.state else None

    def seed(self, configured: int | None) -> int:
        """Return the run's seed: the checkpoint's, else the configured one, else a fresh one."""
        if self.own_state is not None:
            return int(self.own_state["seed"])
        return int.from_bytes(os.urandom(4), "big") if configured is None else configured

    def refuse_other_experiment(self, settings: Mapping[str, Any]) -> None:
        """Raise `InputError`, naming the keys, if the checkpoint is of another experiment."""
        if self.own_state is None:
            return
        before, now = flat(with_defaults(self.own_state["config"])), flat(settings)
        changed = [
            f"{key} ({before.get(key)} in the checkpoint, {now.get(key)} now)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not may_change(key)
        ]
        if changed:
            raise InputError(
                f"{self.path} is of another experiment: {'; '.join(changed)}. Undo that, or start "
                f"anew with --resume False"
            )

    def refuse_other_data(self, fingerprints: Mapping[str, str]) -> None:
        """Raise `InputError` if data, poisoned samples or seeds are not the checkpoint's."""
        if self.own_state is None:
            return
        for what, fingerprint in fingerprints.items():
            if self.own_state["fingerprints"].get(what) != fingerprint:
                raise InputError(
                    f"{self.path}: the run was started with other {what}; restore that, or start "
                    f"anew with --resume False"
                )


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


def find_start(folder: RunFolder, resume: str | None, num_epochs: int | None) -> Resumption:
    """Return what `--resume` means; nothing is changed on the disk.

    Args:
        folder: of the run.
        resume: "False", the name or path of a checkpoint, or None or empty for the latest.
        num_epochs: of the whole run; None: as many as the checkpoint's configuration says.

    Raises:
        InputError: the checkpoint is missing, damaged or refused.
    """
    if resume is not None and resume.lower() == "false":
        return Resumption(None, None, False, "from scratch")
    if not resume or resume.lower() == "true" or resume == LATEST:
        found = folder.read_latest()
        if found is None:
            if resume == LATEST:
                raise InputError(f"--resume: there is no checkpoint {folder.checkpoints / LATEST}")
            return Resumption(None, None, False, "no checkpoint yet: from scratch")
        return judge(*found, found[1], num_epochs)
    path = folder.checkpoints / resume
    path = path if path.is_file() else Path(resume).expanduser()
    if not path.is_file():
        raise InputError(
            f"--resume: there is no checkpoint {resume} here or in {folder.checkpoints}"
        )
    latest = folder.read_latest() if path.parent == folder.checkpoints else None
    state = load_checkpoint(path)
    return judge(path, state, latest[1] if latest else state, num_epochs)


def judge(
    path: Path, state: dict[str, Any], latest: dict[str, Any], num_epochs: int | None
) -> Resumption:
    """Return whether a checkpoint is trained on or only evaluated."""
    if "format" not in state:
        return Resumption(path, state, True, f"{path}: of the published code, evaluated only")
    num_epochs = num_epochs or state["config"]["num_epochs"]
    if state["epoch"] >= num_epochs:
        return Resumption(path, state, True, f"{path}: a finished run, evaluated only")
    if (state["epoch"], state["step"]) < (latest["epoch"], latest["step"]):
        why = f"{path}: older than {LATEST}, evaluated only; name that one to go on training"
        return Resumption(path, state, True, why)
    place = f"epoch {state['epoch']}" + (f", step {state['step']}" if state["step"] else "")
    return Resumption(path, state, False, f"{path}: going on at {place}")


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings with keys that are younger than it at their defaults."""
    try:
        return Config.model_validate(settings).as_yaml()
    except ValidationError:  # it has a key that is no more; the comparison names it
        return settings


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def may_change(key: str) -> bool:
    """Return whether a dotted key may differ from the checkpoint's."""
    parts = key.split(".")
    return parts[0] in MAY_CHANGE or parts[-1] in MAY_CHANGE


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the figures."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def git_commit() -> str | None:
    """Return the project's commit, with `+changes` where files differ; None without git."""
    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def git(*arguments: str) -> str:
    """Return what a git command prints."""
    command = ["git", "-C", str(PROJECT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def comparable_results(folder: RunFolder, fingerprints: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the results of the finished runs beside `folder` on the same poisoned data."""
    results = []
    for file in sorted(folder.path.parent.glob("*/result.json")):
        moved_aside = file.parent.suffix.removeprefix(".").isdecimal()
        if file == folder.result or moved_aside:
            continue
        try:
            result = json.loads(file.read_text())
            same = all(
                result["fingerprints"].get(key) == fingerprints.get(key)
                for key in ("data", "poison")
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another program's file
        if same:
            results.append({**result, "run": file.parent.name})
    return results

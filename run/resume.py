"""What a run starts from, and whether a checkpoint fits the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.no_effect import is_ignored
from config.schema import Config
from run.checkpoint import LATEST, load_checkpoint, read_latest
from run.fingerprints import first_difference, of_what_trains
from run.folder import RunFolder
from utils.errors import InputError, nearest
from utils.files import signature
from utils.paths import user_path

# Keys that may change between a checkpoint and its resumption: where things are, how fast, how
# much is shown. What a run does not read may, too. Every other change makes another experiment.
MAY_CHANGE: tuple[str, ...] = (
    "dataset_dir",
    "storage_dir",
    "speed",
    "test_interval",
    "cache_dir",
    "review",  # a person may look at samples while the run goes on
    "report",
    "report_formats",
    "seed_dir",  # the seeds' fingerprint tells whether it matters
    "seed_indices",
    "skip_unreadable",  # the data's fingerprint tells whether it matters
)
# How devices compute: a run may go on with more processes than it began with, which is said.
MAY_CHANGE += ("sync_bn", "benchmark", "deterministic")
# Keys that earlier versions did not write where they were null, which is not their default.
ONCE_LOST = (("seed", "seed"), ("abl", "ascent_bound"))
READ_FROM = ("dataset_dir", "seed_dir", "seed_indices", "review")


@dataclass(frozen=True)
class Resumption:
    """What a run starts from.

    Attributes:
        path, state: the checkpoint; None for a start from scratch.
        only_evaluate: it is finished, older than the latest, or not of this project.
        why: a line to say.
        latest: where the run's latest checkpoint is or will be.
        seen: that file as it was when this was found out.
    """

    path: Path | None
    state: dict[str, Any] | None
    only_evaluate: bool
    why: str
    latest: Path | None = None
    seen: tuple[int, int, int] | None = None

    @property
    def own_state(self) -> dict[str, Any] | None:
        """The checkpoint, unless it is one of the published code, which holds weights only."""
        return self.state if self.state is not None and "format" in self.state else None

    def refuse_if_changed(self) -> None:
        """Raise `InputError` if another process has written a checkpoint since.

        A start from scratch by `--resume False` has not looked at any.
        """
        if self.latest is not None and signature(self.latest) != self.seen:
            raise InputError(
                f"{self.latest}: written by another process just now; give the command again to go "
                f"on from there"
            )

    def seed(self, configured: int | None) -> int:
        """Return the run's seed: the checkpoint's, else the configured one, else a fresh one."""
        if self.own_state is not None:
            return int(self.own_state["seed"])
        return int.from_bytes(os.urandom(4), "big") if configured is None else configured

    def refuse_other_experiment(self, config: Config) -> None:
        """Raise `InputError`, naming the keys, if the checkpoint is of another experiment."""
        if self.own_state is None:
            return
        settings = self.own_state["config"]
        before, now = flat(with_defaults(settings)), flat(config.as_yaml())
        changed = [
            f"{key} ({before.get(key)} in the checkpoint, {now.get(key)} now)"
            for key in what_differs(settings, config)
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
        ours = of_what_trains(fingerprints)
        what = first_difference(self.own_state["fingerprints"], ours)
        if what is not None:
            raise InputError(
                f"{self.path}: the run was started with other {what}; restore that, or start "
                f"anew with --resume False"
            )


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
    path = folder.checkpoints / LATEST
    before = {"latest": path, "seen": signature(path)}
    return replace(_find_start(folder, resume, num_epochs), **before)  # type: ignore[arg-type]


def _find_start(folder: RunFolder, resume: str | None, num_epochs: int | None) -> Resumption:
    if not resume or resume.lower() == "true" or resume == LATEST:
        found = read_latest(folder.checkpoints)
        if found is None:
            if resume == LATEST:
                raise InputError(f"--resume: there is no checkpoint {folder.checkpoints / LATEST}")
            return Resumption(None, None, False, "no checkpoint yet: from scratch")
        return judge(*found, found[1], num_epochs)
    path = user_path(resume, "--resume")
    inside = folder.checkpoints / path
    path = inside if inside.is_file() else path
    if not path.is_file():
        raise no_checkpoint(resume, folder)
    latest = read_latest(folder.checkpoints) if folder.holds(path) else None
    state = load_checkpoint(path)
    return judge(path, state, latest[1] if latest else state, num_epochs)


def no_checkpoint(resume: str, folder: RunFolder) -> InputError:
    """Return the error for a name by which no checkpoint is found, with those that there are."""
    line = f"--resume: there is no checkpoint {resume} here or in {folder.checkpoints}"
    if "=" in resume:
        return InputError(f"{line}; keys are set before --resume")
    there = [path.name for path in folder.checkpoints.glob("[!.]*.pt")]
    return InputError(f"{line}{nearest(resume, there)}")


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
        return Config.model_validate(with_what_was_lost(settings)).as_yaml()
    except ValidationError:  # it has a key that is no more; the comparison names it
        return settings


def with_what_was_lost(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings with the nulls that its version did not write."""
    found = dict(settings)
    for name, key in ONCE_LOST:
        section = found.get(name)
        if isinstance(section, dict):
            found[name] = {key: None, **section}
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def what_differs(earlier: dict[str, Any], config: Config) -> list[str]:
    """Return the dotted keys, sorted, that make a run of `config` another one than an earlier run.

    Args:
        earlier: the settings of that run, as its checkpoint or its `config.yaml` has them.
        config: now.
    """
    before, now = flat(with_defaults(earlier)), flat(config.as_yaml())
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return [key for key in changed if not (may_change(key) or is_ignored(config, key))]


def reads_elsewhere(earlier: dict[str, Any], config: Config) -> bool:
    """Return whether a run of `config` reads its data from other files than an earlier run.

    They may hold the same: that takes a look at them.
    """
    before, now = flat(with_defaults(earlier)), flat(config.as_yaml())
    return any(
        resolved(before.get(key), key) != resolved(now.get(key), key)
        for key in before.keys() | now.keys()
        if key.rpartition(".")[2] in READ_FROM
    )


def resolved(path: Any, key: str) -> Any:
    """Return where a path of the configuration leads; anything else as it is."""
    return user_path(path, key).resolve() if isinstance(path, str) and path else path


def may_change(key: str) -> bool:
    """Return whether a dotted key may differ from the checkpoint's."""
    parts = key.split(".")
    return parts[0] in MAY_CHANGE or parts[-1] in MAY_CHANGE

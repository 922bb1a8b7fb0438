"""A list of runs: which ones the command line means, and each as a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from config.load import load_config, run_name
from config.methods import METHODS
from config.schema import Config
from repair import REPAIRS
from run.folder import RunFolder
from run.names import find_folder
from run.repairing import asks_for, source_name
from run.results import has_result
from utils.console import say
from utils.errors import InputError
from utils.files import PROJECT
from utils.interrupt import Interrupted
from utils.paths import user_path
from utils.plain_yaml import read_yaml
from utils.printable import clipped

FINISHED, WRONG = "finished", "failed (configuration)"
FAILED = "failed (exit code {})"
# Wrong input, told before anything is trained.
NOT_BEGUN = {WRONG, FAILED.format(InputError.exit_code)}


@dataclass(frozen=True)
class Job:
    """One run of the list.

    Attributes:
        path: of the YAML.
        overrides: of the list, and the defence where `--defense` asks for another one.
        name: of the run's folder; the YAML's path where it cannot be read.
        group: the name without the seed that `--seeds` put to it.
        row: the name without the defence either: what several defences are compared on.
        column: the repair, else the defence.
        config: as ASD.py will see it; None where it cannot be read.
        error: why it cannot be read.
    """

    path: Path
    overrides: tuple[str, ...]
    name: str
    group: str
    row: str
    column: str
    config: Config | None = None
    error: str | None = None

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept."""
        assert self.config is not None
        return find_folder(self.config.storage_dir, None, self.name)


def beside(path: Path, defense: str) -> Path:
    """Return where a YAML's variant for another defence would be: `digits_none.yaml`."""
    return path.with_name(f"{path.stem}_{defense}{path.suffix}")


def plan_job(path: Path, defense: str | None, overrides: Sequence[str]) -> Job:
    """Return the run of a YAML, perhaps with another method than its own.

    Where `<stem>_<method>.yaml` lies beside it, that one is meant: a method may need settings of
    its own (schedule, optimiser). Otherwise the run gets that name.
    """
    row, column = run_name(path), defense
    if defense is not None and beside(path, defense).is_file():
        path, defense = beside(path, defense), None
    elif defense is not None and defense in REPAIRS:
        return plan_repair(path, defense, overrides)
    try:
        loaded = load_config(path, overrides)
        name = loaded.name
        if defense is not None and defense != method_of(loaded.config):
            name = f"{name}_{defense}"
            overrides = [*overrides, f"defense={defense}"]
            if loaded.config.repair.method is not None:
                overrides.append("repair.method=null")
            loaded = load_config(path, overrides)
        find_folder(loaded.config.storage_dir, None, name)
    except InputError as error:
        return Job(
            path, tuple(overrides), str(path), str(path), row, column or "", error=str(error)
        )
    column = column or method_of(loaded.config)
    return Job(path, tuple(overrides), name, name, row, column, loaded.config)


def method_of(config: Config) -> str:
    """Return what a run is compared by: its repair, else its defence."""
    return config.repair.method or config.defense


def plan_repair(path: Path, method: str, overrides: Sequence[str]) -> Job:
    """Return the run that repairs the model of the run without a defence."""
    plain = plan_job(path, "none", overrides)
    if plain.error is not None:
        return replace(plain, column=method)
    name = f"{plain.name.removesuffix('_none')}_{method}"
    more = (*plain.overrides, f"repair.method={method}", f"repair.of={plain.name}")
    return replace(plain, name=name, group=name, column=method, **with_overrides(plain.path, more))


def with_overrides(path: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the changed fields of a job: overrides, and the configuration or its error."""
    try:
        return {"overrides": overrides, "config": load_config(path, overrides).config}
    except InputError as error:
        return {"overrides": overrides, "error": str(error)}


def with_seed(job: Job, seed: int) -> Job:
    """Return the job under the name of a seed; a repair is one of the run with that seed."""
    name = f"{job.name}_seed{seed}"
    if job.config is None or job.config.repair.method is None:
        return replace(job, name=name)
    try:
        of = f"repair.of={source_name(job.config.repair, job.name)}_seed{seed}"
    except InputError as error:
        return replace(job, name=name, error=str(error))
    return replace(job, name=name, **with_overrides(job.path, (*job.overrides, of)))


def plan_seeded(path: Path, defense: str | None, arguments: argparse.Namespace) -> list[Job]:
    """Return the runs of a YAML with one defence: one for each of `--seeds`, else a single one."""
    if not arguments.seeds:
        return [plan_job(path, defense, arguments.overrides)]
    seeds = dict.fromkeys(arguments.seeds)
    jobs = [plan_job(path, defense, [*arguments.overrides, f"seed.seed={n}"]) for n in seeds]
    if jobs[0].error is not None:
        return jobs[:1]  # is told once
    return [with_seed(job, n) for job, n in zip(jobs, seeds, strict=True)]


def plan_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Return the runs, each name once, in the order of the configurations.

    Raises:
        InputError: two configurations would share a run's folder.
    """
    paths = [user_path(config, "command line") for config in arguments.configs]
    if arguments.defense:  # a*.yaml also finds a_none.yaml, which `a.yaml` stands for already
        variants = {beside(path, method) for path in paths for method in METHODS}
        paths = [path for path in paths if path not in variants]
    jobs: dict[str, Job] = {}
    for path in paths:
        for defense in with_what_they_need(arguments.defense or [None]):
            for job in plan_seeded(path, defense, arguments):
                known = jobs.setdefault(job.name, job)
                if known.path.resolve() != job.path.resolve():
                    raise InputError(
                        f"{known.path} and {job.path} would both be the run {job.name}"
                    )
    return list(jobs.values())


def with_what_they_need(methods: Sequence[str | None]) -> list[str | None]:
    """Return the methods, with the undefended run before the first repair of its model."""
    repairs = [method for method in methods if method is not None and method in REPAIRS]
    if not repairs:
        return list(methods)
    others = [method for method in methods if method not in {"none", *repairs}]
    return ["none", *repairs, *others]


def is_finished(job: Job) -> bool:
    """Return whether the run is finished, with the same configuration as now."""
    if job.config is None or not has_result(job.folder):
        return False
    try:
        settings = read_yaml(job.folder.path / "config.yaml", "config.yaml")
        config = job.config
        with contextlib.suppress(InputError):  # what is `auto` is as it was chosen for that run
            config = load_config(job.path, job.overrides, earlier=settings).config
        return asks_for(config, job.folder, settings)
    except (InputError, AttributeError):
        return False


def run_job(job: Job, arguments: argparse.Namespace) -> str:
    """Run a configuration to its end; return "finished", or how it failed.

    The process is shielded from the terminal's Ctrl-C and told of it once, so that it can save.
    """
    if job.error is not None:
        say(clipped(f"error: {job.error}"))
        return WRONG
    if not arguments.anew and is_finished(job):
        say("finished before")
        return FINISHED
    command = [sys.executable, str(PROJECT / "ASD.py"), "--config", str(job.path)]
    command += ["--name", job.name, "--resume", "False" if arguments.anew else ""]
    command += [] if arguments.gpu is None else ["--gpu", arguments.gpu]
    process = subprocess.Popen([*command, *job.overrides], start_new_session=True)
    try:
        code = process.wait()
    except Interrupted:
        process.terminate()
        process.wait()
        raise
    if code == 0 and has_result(job.folder):
        return FINISHED
    return FAILED.format(code)

"""Run a list of configurations one after another, and tabulate their results.

    python run_all.py config/small/*.yaml --defense asd none --seeds 1 2 3 -- dataset_dir=FOLDER

Each run is a process of its own (`ASD.py`). Finished runs are skipped and interrupted ones go on,
so the same command can be given until all is done. A run that fails does not stop the list. With
`--seeds` a second table has mean and range of each configuration. Exit codes: 0 all runs are
finished; 1 at least one failed; 2 wrong use; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from command.arguments import Parser
from config.load import load_config
from config.schema import Config
from defense import DEFENSES
from run.folder import RunFolder
from run.resume import flat, may_change
from utils.console import percent, say, table
from utils.errors import InputError, TrainingError, nearest
from utils.files import PROJECT, write_text
from utils.interrupt import Interrupt, Interrupted
from utils.tables import table_text

# Columns of the table: key of a row, title on the screen.
COLUMNS = {
    "run": "run",
    "defense": "defence",
    "attack": "attack",
    "seed": "seed",
    "acc": "ACC",
    "asr": "ASR",
    "seconds": "seconds",
    "poisoned_in_clean_pool": "poisoned in clean pool",
    "verdict": "verdict",
    "suspects_auroc": "AUROC of suspects",
    "suspects_precision": "precision of suspects",
    "state": "state",
}
OF_RESULT = (
    "defense", "attack", "seed", "acc", "asr", "seconds",
    "verdict", "suspects_auroc", "suspects_precision",
)  # fmt: skip
OF_TRUTH = ("attack", "asr", "poisoned_in_clean_pool", "suspects_auroc", "suspects_precision")
# Figures that are told as mean and range over seeds, and how each is written.
OVER_SEEDS = {
    "acc": percent,
    "asr": percent,
    "suspects_auroc": "{:.4f}".format,
    "suspects_precision": percent,
}
FINISHED = "finished"


@dataclass(frozen=True)
class Job:
    """One run of the list.

    Attributes:
        path: of the YAML.
        overrides: of the list, and the defence where `--defense` asks for another one.
        name: of the run's folder; the YAML's path where it cannot be read.
        group: the name without the seed that `--seeds` put to it.
        config: as ASD.py will see it; None where it cannot be read.
        error: why it cannot be read.
    """

    path: Path
    overrides: tuple[str, ...]
    name: str
    group: str
    config: Config | None = None
    error: str | None = None

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept."""
        assert self.config is not None
        return RunFolder(Path(self.config.storage_dir).expanduser() / self.name)


def beside(path: Path, defense: str) -> Path:
    """Return where a YAML's variant for another defence would be: `digits_none.yaml`."""
    return path.with_name(f"{path.stem}_{defense}{path.suffix}")


def plan_job(path: Path, defense: str | None, overrides: Sequence[str]) -> Job:
    """Return the run of a YAML, perhaps with another defence than its own.

    Where `<stem>_<defense>.yaml` lies beside it, that one is meant: a defence may need settings of
    its own (schedule, optimiser). Otherwise the run gets that name.
    """
    if defense is not None and beside(path, defense).is_file():
        path, defense = beside(path, defense), None
    try:
        loaded = load_config(path, overrides)
        name = loaded.name
        if defense is not None and defense != loaded.config.defense:
            name, overrides = f"{name}_{defense}", [*overrides, f"defense={defense}"]
            loaded = load_config(path, overrides)
    except InputError as error:
        return Job(path, tuple(overrides), str(path), str(path), error=str(error))
    return Job(path, tuple(overrides), name, name, loaded.config)


def plan_seeded(path: Path, defense: str | None, arguments: argparse.Namespace) -> list[Job]:
    """Return the runs of a YAML with one defence: one for each of `--seeds`, else a single one."""
    if not arguments.seeds:
        return [plan_job(path, defense, arguments.overrides)]
    seeds = dict.fromkeys(arguments.seeds)
    jobs = [plan_job(path, defense, [*arguments.overrides, f"seed.seed={n}"]) for n in seeds]
    if jobs[0].error is not None:
        return jobs[:1]  # is told once
    return [replace(job, name=f"{job.name}_seed{n}") for job, n in zip(jobs, seeds, strict=True)]


def plan_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Return the runs, each name once, in the order of the configurations.

    Raises:
        InputError: two configurations would share a run's folder.
    """
    paths = [Path(config) for config in arguments.configs]
    if arguments.defense:  # a*.yaml also finds a_none.yaml, which `a.yaml` stands for already
        variants = {beside(path, defense) for path in paths for defense in DEFENSES}
        paths = [path for path in paths if path not in variants]
    jobs: dict[str, Job] = {}
    for path in paths:
        for defense in arguments.defense or [None]:
            for job in plan_seeded(path, defense, arguments):
                known = jobs.setdefault(job.name, job)
                if known.path.resolve() != job.path.resolve():
                    raise InputError(
                        f"{known.path} and {job.path} would both be the run {job.name}"
                    )
    return list(jobs.values())


def is_finished(job: Job) -> bool:
    """Return whether the run is finished, with the same configuration as now."""
    if job.config is None or not job.folder.result.is_file():
        return False
    try:
        settings = yaml.safe_load((job.folder.path / "config.yaml").read_text("utf-8"))
        before = flat(settings)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return False
    now = flat(job.config.as_yaml())
    with contextlib.suppress(InputError):  # what is `auto` is as it was chosen for that run
        earlier = load_config(job.path, job.overrides, earlier=settings)
        now = flat(earlier.config.as_yaml())
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    return all(may_change(key) for key in changed)


def run_job(job: Job, arguments: argparse.Namespace) -> str:
    """Run a configuration to its end; return "finished", or how it failed.

    The process is shielded from the terminal's Ctrl-C and told of it once, so that it can save.
    """
    if job.error is not None:
        say(f"error: {job.error}")
        return "failed (configuration)"
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
    if code == 0 and job.folder.result.is_file():
        return FINISHED
    return f"failed (exit code {code})"


def poisoned_at_the_end(folder: RunFolder) -> int | None:
    """Return the poisoned samples in the clean pool of the last epoch; None where not known."""
    try:
        with (folder.path / "log.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return int(rows[-1]["poisoned_in_clean_pool"])
    except (OSError, ValueError, IndexError, KeyError, csv.Error):
        return None


def result_row(job: Job, state: str) -> dict[str, Any]:
    """Return the run's row of the table; figures of a finished run only."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"run": job.name, "state": state}
    if state == FINISHED:
        result = json.loads(job.folder.result.read_text("utf-8"))
        row |= {key: result.get(key) for key in OF_RESULT}
        row["poisoned_in_clean_pool"] = poisoned_at_the_end(job.folder)
    return row


def known_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table's columns; those about the truth only where a run knows something of it."""
    return [
        key for key in COLUMNS if key not in OF_TRUTH or any(row[key] is not None for row in rows)
    ]


def written(key: str, value: Any) -> str:
    """Return a figure as the screen shows it."""
    if value is None:
        return "-"
    return OVER_SEEDS[key](value) if key in OVER_SEEDS else str(value)


def readable(row: dict[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Return a row as the screen shows it."""
    return {COLUMNS[key]: written(key, row[key]) for key in columns}


def over_seeds(
    jobs: Sequence[Job], rows: Sequence[dict[str, Any]], columns: Sequence[str]
) -> list[dict[str, str]]:
    """Return for each configuration its finished seeds, and mean and range of its figures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for job, row in zip(jobs, rows, strict=False):  # an interrupted list has fewer rows
        if row["state"] == FINISHED:
            groups.setdefault(job.group, []).append(row)
    summary = []
    for group, members in groups.items():
        line = {"configuration": group, "seeds": str(len(members))}
        for key in (key for key in OVER_SEEDS if key in columns):
            line[COLUMNS[key]] = mean_and_range(key, [row[key] for row in members])
        summary.append(line)
    return summary


def mean_and_range(key: str, figures: Sequence[float | None]) -> str:
    """Return mean, smallest and largest of the figures that are known, for the screen."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return "-"
    mean, low, high = (written(key, of(known)) for of in (statistics.fmean, min, max))
    return f"{mean} ({low} to {high})"


def write_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write the rows, ACC and ASR as fractions, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, table_text(columns, rows))


def report(jobs: Sequence[Job], rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Print the table and write it as CSV; print what several seeds have in common."""
    columns = known_columns(rows)
    write_csv(rows, columns, path)
    say(table([readable(row, columns) for row in rows], headers="keys"))
    if any(job.group != job.name for job in jobs):
        say("over the seeds, mean (smallest to largest):")
        say(table(over_seeds(jobs, rows, columns), headers="keys"))
    say(f"as CSV: {path}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; what follows `--` are overrides for all runs.

    Raises:
        InputError: unknown or incomplete ones.
    """
    given = list(argv)
    end = given.index("--") if "--" in given else len(given)
    parser = Parser(prog="run_all.py", description="Run configurations one after another.")
    parser.add_argument("configs", nargs="+", metavar="YAML")
    parser.add_argument(
        "--defense", nargs="+", metavar="NAME", help="run each with these, e.g. asd none"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="N", help="run each with these, e.g. 100 101 102"
    )
    parser.add_argument("--gpu", default=None, help="as of ASD.py")
    parser.add_argument(
        "--anew",
        action="store_true",
        help="from scratch, finished runs too; earlier runs are moved aside",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        default=Path("storage/results.csv"),
        help="where the table goes (default: %(default)s)",
    )
    arguments = parser.parse_args(given[:end])
    arguments.overrides = given[end + 1 :]
    for defense in arguments.defense or []:
        if defense not in DEFENSES:
            raise InputError(f"--defense: no defence {defense!r}{nearest(defense, DEFENSES)}")
    return arguments


def run_list(argv: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = parse(argv)
    jobs = plan_jobs(arguments)
    rows: list[dict[str, Any]] = []
    try:
        for number, job in enumerate(jobs, start=1):
            say(f"[{number}/{len(jobs)}] {job.name}")
            rows.append(result_row(job, run_job(job, arguments)))
    finally:
        if rows:
            report(jobs, rows, arguments.csv)
    return 0 if all(row["state"] == FINISHED for row in rows) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    try:
        with Interrupt():
            return run_list(sys.argv[1:] if argv is None else argv)
    except (InputError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())

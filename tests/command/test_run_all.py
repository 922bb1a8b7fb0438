"""A list of runs: each to its end, none twice, and a failure stops nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import ASD
import run_all
from command.jobs import is_finished, plan_job, plan_jobs
from command.listing import COLUMNS, over_seeds, report
from tests.conftest import DIGITS, TINY
from tests.data.own_data_cases import make_folder
from utils.errors import InputError

SHORT = (*TINY, "num_epochs=1")


def outcome(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, what went to stdout, and to stderr; of the runs too."""
    code = run_all.main(arguments)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def write(folder: Path, name: str, text: str = "") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"extends: {DIGITS}\n{text}")
    return path


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def planned(*arguments: str) -> list[tuple[str, str, str]]:
    """Return file, run and defence of each run that the command line means."""
    jobs = plan_jobs(run_all.parse(arguments))
    return [(job.path.name, job.name, job.config.defense if job.config else "?") for job in jobs]


def test_a_failure_stops_nothing_and_finished_runs_are_skipped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slip = write(tmp_path, "slip", "num_epoch: 3\n")
    fails = write(tmp_path, "fails", "backdoor: {badnets: {trigger_path: no.png}}\n")
    good = write(tmp_path, "good")
    table, runs = tmp_path / "out" / "table.csv", tmp_path / "runs"
    options = ["--gpu", "cpu", "--csv", str(table), "--defense", "none"]
    after = ["--", *SHORT, f"storage_dir={runs}"]
    code, out, err = outcome(capfd, str(slip), str(fails), str(good), *options, *after)
    assert code == 1
    assert "num_epoch: unknown key" in out
    assert "no.png" in err
    rows = rows_of(table)
    assert {name: row["state"] for name, row in rows.items()} == {
        str(slip): "failed (configuration)",
        "fails_none": "failed (exit code 2)",
        "good_none": "finished",
    }
    result = json.loads((runs / "good_none" / "result.json").read_text())
    row = rows["good_none"]
    assert (float(row["acc"]), float(row["asr"])) == (result["acc"], result["asr"])
    assert (row["defense"], row["attack"], row["seed"]) == ("none", "badnets", "100")
    assert row["poisoned_in_clean_pool"] == "15"  # without a defence all 300 samples are trusted
    assert rows["fails_none"]["acc"] == ""
    assert f"{100 * result['acc']:.2f} %" in out

    before = (runs / "good_none" / "result.json").stat().st_mtime_ns
    code, out, err = outcome(capfd, str(good), *options, *after)
    assert (code, err) == (0, "")
    assert "finished before" in out
    assert (runs / "good_none" / "result.json").stat().st_mtime_ns == before
    assert rows_of(table)["good_none"] == row
    # Another place or speed is no other run, nor is what another method reads; another seed is.
    changes = {
        "speed.evaluation_batch=7": True,
        "dbd.mixmatch_epochs=7": True,
        "repair.nad.num_epochs=7": True,
        "seed.seed=7": False,
        "loader.batch_size=7": False,
    }
    for change, same in changes.items():
        overrides = [*SHORT, f"storage_dir={runs}", change]
        assert is_finished(plan_job(good, "none", overrides)) == same


def test_a_defence_of_its_own_has_a_name_of_its_own(tmp_path: Path) -> None:
    plain, other = str(write(tmp_path, "plain")), str(write(tmp_path, "other"))
    variant = str(write(tmp_path, "other_none", "defense: none\nnum_epochs: 7\n"))
    assert planned(plain) == [("plain.yaml", "plain", "asd")]
    both = ["--defense", "asd", "none"]
    assert planned(plain, *both) == [
        ("plain.yaml", "plain", "asd"),
        ("plain.yaml", "plain_none", "none"),
    ]
    # A YAML made for the other defence is taken, and taken once.
    expected = [("other.yaml", "other", "asd"), ("other_none.yaml", "other_none", "none")]
    assert planned(other, *both) == expected
    assert planned(other, variant, *both) == expected
    assert planned(variant, other, *both, "--", "seed.seed=2") == expected
    assert planned(other, variant) == expected
    assert planned(plain, plain) == [("plain.yaml", "plain", "asd")]


def test_each_seed_is_a_run_of_its_own(tmp_path: Path) -> None:
    plain, slip = str(write(tmp_path, "plain")), str(write(tmp_path, "slip", "num_epoch: 3\n"))
    given = [plain, slip, "--defense", "none", "--seeds", "7", "8", "7", "--", "seed.seed=1"]
    jobs = plan_jobs(run_all.parse(given))
    assert [(job.name, job.group, job.config and job.config.seed.seed) for job in jobs] == [
        ("plain_none_seed7", "plain_none", 7),
        ("plain_none_seed8", "plain_none", 8),
        (slip, slip, None),  # told once
    ]


def test_figures_over_seeds_are_of_finished_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = str(write(tmp_path, "plain"))
    jobs = plan_jobs(run_all.parse([plain, "--seeds", "1", "2", "3"]))
    figures = {1: (0.9, 0.0, 0.99), 2: (0.8, 0.5, None), 3: (0.1, 1.0, 0.5)}
    rows = []
    for job, (seed, (acc, asr, auroc)) in zip(jobs, figures.items(), strict=True):
        row = dict.fromkeys(COLUMNS) | {"run": job.name, "seed": seed, "acc": acc}
        state = "finished" if seed < 3 else "failed (exit code 1)"
        rows.append(row | {"asr": asr, "suspects_auroc": auroc, "state": state})
    (line,) = over_seeds(jobs, rows, list(COLUMNS))
    assert line == {
        "configuration": "plain",
        "seeds": "2",
        "ACC": "85.00 % (80.00 % to 90.00 %)",
        "ASR": "25.00 % (0.00 % to 50.00 %)",
        "AUROC of suspects": "0.9900 (0.9900 to 0.9900)",
        "precision of suspects": "-",
    }
    report(jobs, rows, tmp_path / "table.csv")
    assert "85.00 % (80.00 % to 90.00 %)" in capsys.readouterr().out
    assert rows_of(tmp_path / "table.csv")["plain_seed2"]["suspects_auroc"] == ""


def test_ready_configurations_keep_their_names() -> None:
    names = [str(DIGITS), str(DIGITS.with_name("cifar10_small.yaml"))]
    runs = planned(*names, "--defense", "asd", "none")
    assert [run for _, run, _ in runs] == [
        "digits",
        "digits_none",
        "cifar10_small",
        "cifar10_small_none",
    ]
    assert [file.removesuffix(".yaml") for file, _, _ in runs] == [run for _, run, _ in runs]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "YAML"),
        ([str(DIGITS), "--defense", "nome"], "'none'"),
        ([str(DIGITS), "--fast"], "run_all.py --help"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = outcome(capfd, *arguments)
    assert code == 2
    assert part in err
    assert err.count("\n") == 1


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = [write(tmp_path, "same"), write(tmp_path / "a", "same")]
    with pytest.raises(InputError, match="would both be the run same"):
        planned(*map(str, paths))


def test_where_no_configuration_is_right_the_input_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("of the last list")
    for given in ([str(tmp_path / "nix.yaml")], [str(DIGITS), "--seeds", "-1"]):
        code, out, _ = outcome(capfd, *given, "--csv", str(table))
        assert (code, table.read_text()) == (2, "of the last list")
        assert "no table is written" in out


def test_where_no_run_can_begin_the_tables_of_earlier_lists_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [str(write(tmp_path, "good")), "--csv", str(tmp_path / "t.csv"), "--table", "paper"]
    given += ["--table-dir", str(tmp_path / "table"), "--defense", "none"]
    for code in (2, 1):
        monkeypatch.setattr(run_all, "run_job", lambda *_, code=code: f"failed (exit code {code})")
        assert outcome(capfd, *given)[0] == code
        written = [(tmp_path / name).exists() for name in ("t.csv", "table/table.csv")]
        assert written == [code == 1] * 2


@pytest.mark.parametrize("name", ["../out", "/out", ""])
def test_a_name_stays_below_the_storage_folder(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(DIGITS), "--gpu", "cpu", f"storage_dir={tmp_path / 'runs'}"]
    assert ASD.main([*given, "--name", name, "--check"]) == 2
    assert "--name" in capfd.readouterr().err
    assert ASD.main([*given, "--name", "a/b", "--check"]) == 0
    assert str(tmp_path / "runs" / "a" / "b") in capfd.readouterr().out


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--csv", "{file}/t.csv"], "--csv"),
        (["--csv", "{folder}"], "is a folder"),
        (["--csv", "~nosuchuser/t.csv"], "no known home"),
        (["--csv", "a\0b"], "--csv"),
        (["--table", "paper", "--table-dir", "{file}/x"], "--table-dir"),
        (["--table-dir", "{folder}"], "that is not given"),
    ],
)
def test_a_place_where_no_table_can_be_written_is_refused_before_the_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], given: list[str], word: str
) -> None:
    (tmp_path / "file").write_text("")
    places = {"file": str(tmp_path / "file"), "folder": str(tmp_path)}
    words = [part.format(**places) for part in given]
    code, out, err = outcome(capfd, str(write(tmp_path, "never")), *words)
    assert (code, out) == (2, "")
    assert word in err and err.count("\n") == 1


def test_a_damaged_result_is_run_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--gpu", "cpu", "--csv", str(tmp_path / "t.csv"), "--defense", "none"]
    given = [str(write(tmp_path, "a")), *options, "--", *SHORT, f"storage_dir={tmp_path / 'runs'}"]
    assert outcome(capfd, *given)[0] == 0
    result = tmp_path / "runs" / "a_none" / "result.json"
    whole = result.read_text()
    job = plan_jobs(run_all.parse(given))[0]
    assert is_finished(job)
    for damage in ('{"fingerprints": []}', "", "5"):
        result.write_text(damage)
        assert not is_finished(job)
    code, out, _ = outcome(capfd, *given)
    assert code == 0
    assert "finished before" not in out
    assert json.loads(result.read_text())["acc"] == json.loads(whole)["acc"]


def test_data_in_another_place_are_looked_at_again(tmp_path: Path) -> None:
    """Whether they are the same only a run can tell; its own earlier figures are no answer."""
    good, runs = write(tmp_path, "good"), tmp_path / "runs"
    after = [*SHORT, f"storage_dir={runs}"]
    assert ASD.main(["--config", str(good), "--gpu", "cpu", *after]) == 0
    assert is_finished(plan_job(good, None, after))
    for elsewhere in ("dataset_dir=/elsewhere", "review=other.csv"):
        assert not is_finished(plan_job(good, None, [*after, elsewhere]))


def test_a_path_that_is_none_is_no_traceback(tmp_path: Path) -> None:
    good, runs = write(tmp_path, "good"), tmp_path / "runs"
    after = [*SHORT, f"storage_dir={runs}"]
    assert ASD.main(["--config", str(good), "--gpu", "cpu", *after]) == 0
    for path in ("~nosuchuser/data", "a\0b"):
        assert not is_finished(plan_job(good, None, [*after, f"dataset_dir={path}"]))


def test_a_changed_image_is_looked_at_again(tmp_path: Path) -> None:
    root, runs = make_folder(tmp_path / "d", per_class=4), tmp_path / "runs"
    more = ["dataset=image_folder", f"dataset_dir={root}", "data.image_size=16", "backdoor=null"]
    more += ["data.train_samples=null", "num_classes=3", "global.seed_num=1", "defense=none"]
    after = [*SHORT, *more, f"storage_dir={runs}"]
    assert ASD.main(["--config", str(write(tmp_path, "own")), "--gpu", "cpu", *after]) == 0
    job = plan_job(tmp_path / "own.yaml", None, after)
    assert is_finished(job)
    manifest = runs / "own" / "manifest.json"
    whole = manifest.read_text()
    image = next(path for path in sorted(root.rglob("*")) if path.is_file())
    image.write_bytes(image.read_bytes() + b"\0")
    assert not is_finished(job)
    known = json.loads(whole)
    del known["listing"]
    for content in (json.dumps(known), ""):  # as an earlier version left it; lost
        manifest.write_text(content)
        assert is_finished(job)
    manifest.write_text(whole)
    root.rename(tmp_path / "elsewhere")  # the figures stay
    assert is_finished(job)

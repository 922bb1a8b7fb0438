"""The table of attacks and defences: from finished and failed runs to five files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import run_all
from command.cells import Cell, gather_cells
from command.jobs import FINISHED, plan_jobs
from command.published import Figure, read_published
from command.table import Table
from command.table_picture import draw_table, write_table_picture
from tests.conftest import DIGITS, TINY


def finished(row: str, column: str, *scores: tuple[float, float | None]) -> Cell:
    results = [
        {"attack": "badnets", "dataset": "cifar10", "acc": acc, "asr": asr, "seconds": 60.0 * n}
        for n, (acc, asr) in enumerate(scores, start=1)
    ]
    return Cell(row, column, results, [FINISHED] * len(results))


def example() -> Table:
    cells = [
        finished("small/badnets", "none", (0.9, 1.0), (0.8, 0.9)),
        finished("small/badnets", "asd", (0.9, 0.02)),
        finished("small/blend", "none", (0.5, None)),
        Cell("small/blend", "asd", [], ["failed (exit code 2)"]),
    ]
    return Table(cells, [Figure("cifar10", "badnets", "asd", 0.934, 0.012, "paper")])


def test_cells_hold_means_spreads_and_failures() -> None:
    assert example().scores() == [
        ["small/badnets", "85.0 ± 7.1 / 95.0 ± 7.1", "90.0 / 2.0"],
        ["small/blend", "50.0 / -", "failed (exit code 2)"],
        ["average", "67.5 / -", "- / -"],  # an average over what is there would mislead
    ]
    assert example().minutes() == [["small/badnets", "1.5", "1.0"], ["small/blend", "1.0", "-"]]
    assert example().distances() == [
        ["small/badnets", "ASD", "90.0 / 2.0", "93.4 / 1.2", "-3.4 / +0.8", ""]
    ]


def test_all_forms_hold_the_same_figures(tmp_path: Path) -> None:
    table = example()
    files = [*table.write(tmp_path / "new"), write_table_picture(table, tmp_path / "table.png")]
    assert [file.suffix for file in files] == [".txt", ".md", ".csv", ".json", ".png"]
    assert files[-1].read_bytes().startswith(b"\x89PNG")
    records = json.loads(files[3].read_text())
    with files[2].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) == 4
    for row, record in zip(rows, records, strict=True):
        assert list(row) == list(record)
        assert row["acc_mean"] == ("" if record["acc_mean"] is None else str(record["acc_mean"]))
    assert records[0]["acc_mean"] == pytest.approx(0.85)
    assert records[0]["acc_std"] == pytest.approx(0.1 / 2**0.5)
    assert (records[0]["acc_min"], records[0]["acc_max"]) == (0.8, 0.9)
    assert records[1]["distance_asr"] == pytest.approx(0.008)
    assert records[3]["state"] == "failed (exit code 2)"
    for text in (files[0].read_text(), files[1].read_text()):
        for line in table.scores():
            assert all(cell in text for cell in line)
        assert "up to 2 seeds" in text
    assert files[1].read_text().splitlines()[3].startswith("|--")  # GitHub's form


def test_the_picture_has_a_number_for_each_known_cell() -> None:
    left, right = draw_table(example()).axes
    assert [text.get_text() for text in left.texts] == ["85.0", "90.0", "50.0"]
    assert [text.get_text() for text in right.texts] == ["95.0", "2.0"]


def test_the_paper_is_found_by_the_folder_of_the_configuration_too() -> None:
    figures = read_published()
    cell = finished("imagenet30/blend", "dbd", (0.8, 0.9))
    cell.results[0] |= {"attack": "blend", "dataset": "image_folder"}
    found = cell.published(figures)
    assert found is not None
    assert found.asr == 1.0
    assert Cell("imagenet30/blend", "dbd").published(figures) is None


def write(folder: Path, name: str, text: str = "") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"extends: {DIGITS}\n{text}")
    return str(path)


def test_one_command_makes_the_table_and_a_failing_cell_does_not_stop_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path, "good")
    bad = write(tmp_path, "bad", "num_epoch: 3\n")  # a run that fails: see test_run_all.py
    out = tmp_path / "table"
    given = [bad, good, "--table", "paper", "--defense", "none", "asd", "--gpu", "cpu"]
    given += ["--table-dir", str(out), "--csv", str(tmp_path / "list.csv"), "--"]
    given += [*TINY, "num_epochs=1", f"storage_dir={tmp_path / 'runs'}"]
    assert run_all.main(given) == 1
    first = json.loads((out / "table.json").read_text())
    assert [(r["configuration"], r["defense"], r["state"]) for r in first] == [
        ("bad", "none", "failed (configuration)"),
        ("good", "none", "finished"),
        ("good", "asd", "finished"),
    ]
    for record, name in ((first[1], "good_none"), (first[2], "good")):
        result = json.loads((tmp_path / "runs" / name / "result.json").read_text())
        assert (record["acc_mean"], record["asr_mean"]) == (result["acc"], result["asr"])
    capfd.readouterr()
    assert run_all.main(given) == 1  # again: nothing is trained twice
    assert capfd.readouterr().out.count("finished before") == 2
    assert json.loads((out / "table.json").read_text()) == first


def test_runs_that_were_not_reached_leave_gaps(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a"), write(tmp_path, "b")]
    arguments = run_all.parse([*paths, "--table", "paper", "--defense", "none", "asd"])
    jobs = plan_jobs(arguments)
    assert [(job.row, job.column) for job in jobs] == [
        *(("a", "none"), ("a", "asd")),
        *(("b", "none"), ("b", "asd")),
    ]
    cells = gather_cells(jobs, ["failed (exit code 1)"])
    assert [cell.state for cell in cells] == ["failed (exit code 1)", *["not run"] * 3]
    assert len(draw_table(Table(cells, [])).axes[0].texts) == 0


def test_repairs_follow_the_run_that_they_repair(tmp_path: Path) -> None:
    path, other = write(tmp_path, "a"), write(tmp_path, "b")
    write(tmp_path, "b_none", "defense: none\nnum_epochs: 3\n")
    given = [path, other, "--defense", "nad", "asd", "--seeds", "1", "2"]
    jobs = plan_jobs(run_all.parse(given))
    assert [(job.name, job.row, job.column) for job in jobs if job.row == "b"] == [
        *(("b_none_seed1", "b", "none"), ("b_none_seed2", "b", "none")),
        *(("b_nad_seed1", "b", "nad"), ("b_nad_seed2", "b", "nad")),
        *(("b_seed1", "b", "asd"), ("b_seed2", "b", "asd")),
    ]
    for job in jobs:
        assert job.config is not None
        if job.column == "nad":
            assert job.config.defense == "none"
            assert job.config.repair.method == "nad"
            assert job.config.repair.of == job.name.replace("_nad", "_none")
    epochs = {job.name: job.config.num_epochs for job in jobs if job.config is not None}
    assert epochs["b_nad_seed1"] == epochs["b_none_seed1"] == 3


def test_without_a_word_the_papers_attacks_are_the_rows() -> None:
    jobs = plan_jobs(run_all.parse(["--table", "paper"]))
    rows = list(dict.fromkeys(job.row for job in jobs))
    assert rows == [f"small/{a}" for a in ("badnets", "blend", "wanet", "iab", "refool", "clb")]
    assert {job.column for job in jobs} == {"none", "fine_pruning", "nad", "abl", "dbd", "asd"}
    assert all(job.error is None for job in jobs)
    cells = gather_cells(jobs, [])
    assert all(cell.reduced for cell in cells)


def test_another_rule_of_labels_has_no_figure_of_the_papers() -> None:
    cell = finished("cifar10/badnets_all_to_all", "asd", (0.9, 0.1))
    assert cell.published(read_published()) is not None
    cell.results[0]["label_rule"] = "all_to_all"
    assert cell.published(read_published()) is None


def test_a_yaml_that_repairs_is_compared_as_a_repair(tmp_path: Path) -> None:
    write(tmp_path, "a_none", "defense: none\n")
    write(tmp_path, "a")
    repair = tmp_path / "a_nad.yaml"
    repair.write_text("extends: a_none.yaml\nrepair: {method: nad}\n")
    other = write(tmp_path, "b", "defense: none\nrepair: {method: nad, of: a_none}\n")
    alone = plan_jobs(run_all.parse([str(repair), other]))
    assert [(job.name, job.column) for job in alone] == [("a_nad", "nad"), ("b", "nad")]
    for wanted in ("none", "asd"):
        for path in (repair, other):
            (job,) = plan_jobs(run_all.parse([str(path), "--defense", wanted]))
            assert job.config is not None
            assert (job.column, job.config.defense, job.config.repair.method) == (
                wanted,
                wanted,
                None,
            )
    seeded = plan_jobs(run_all.parse([str(repair), other, "--seeds", "1", "2"]))
    of = {job.name: job.config.repair.of for job in seeded if job.config is not None}
    assert of == {
        **{f"a_nad_seed{n}": f"a_none_seed{n}" for n in (1, 2)},
        **{f"b_seed{n}": f"a_none_seed{n}" for n in (1, 2)},
    }
    given = [str(tmp_path / "a.yaml"), "--defense", "none", "nad", "--seeds", "1"]
    of = {job.name: job.config.repair.of for job in plan_jobs(run_all.parse(given)) if job.config}
    assert of == {"a_none_seed1": None, "a_nad_seed1": "a_none_seed1"}

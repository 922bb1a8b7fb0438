"""The list of suspects and the verdict: from what a defender can see, and nothing else."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ASD
from defense.defense import Pools
from defense.history import KEPT_REDUCTIONS, History
from report import write
from report.moved import what_moved
from report.suspects import write_suspects
from report.verdict import VERDICT_FILE, Verdict, exit_code, read_verdict
from report.write import doubts
from tests.report.made_up import made_up
from tests.report.report_example import make_findings
from utils.errors import InputError, TrainingError
from utils.files import PROJECT


def test_the_history_keeps_what_the_splits_say() -> None:
    history = History()
    for epoch in range(8):
        clean = torch.tensor([True, epoch < 3, False])
        loss = torch.tensor([0.1, 0.2, float(epoch)])
        reduction = None if epoch < 2 else loss + 1
        history.note("early" if epoch < 2 else "late", Pools(clean, loss, reduction))
    assert history.epochs == 8
    assert history.polluted is not None and history.polluted.tolist() == [0, 5, 8]
    assert history.losses["early"][2] == 1 and history.losses["late"][2] == 7
    assert len(history.reductions) == KEPT_REDUCTIONS
    assert [float(kept[2]) for kept in history.reductions] == [4, 5, 6, 7, 8]


def test_a_method_that_does_not_split_leaves_no_history() -> None:
    history = History()
    history.note("supervised", Pools(torch.ones(3, dtype=torch.bool)))
    assert history == History()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run with its report, and the command line that made it."""
    from tests.conftest import DIGITS, TINY

    storage = tmp_path_factory.mktemp("storage")
    arguments = ["--config", str(DIGITS), "--gpu", "cpu", *TINY, "report=true"]
    arguments.append(f"storage_dir={storage}")
    assert ASD.main(arguments) == 0
    return storage / "digits", arguments


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "report" / "suspects.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_a_benchmark_run_leaves_a_full_list(finished: tuple[Path, list[str]]) -> None:
    run, _ = finished
    rows = rows_of(run)
    assert list(rows[0])[:7] == [
        "rank",
        "file",
        "index",
        "label",
        "predicted",
        "probability",
        "score",
    ]
    assert {"loss_class_aware", "loss_class_agnostic", "loss_meta_split"} <= set(rows[0])
    assert sorted(int(row["index"]) for row in rows) == list(range(300))
    assert [int(row["rank"]) for row in rows] == list(range(1, 301))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= 0 and scores[0] <= 1
    manifest = json.loads((run / "manifest.json").read_text())
    told = {int(row["index"]) for row in rows if row["poisoned"] == "1"}
    assert told == set(manifest["poisoned_indices"])
    kept = (run / "report" / "purified.txt").read_text().split()
    assert kept == sorted((row["file"] for row in rows if row["kept"] == "1"), key=int)
    assert set(map(str, manifest["seed_indices"])) <= set(kept)


def test_a_report_is_the_files_that_the_page_names(finished: tuple[Path, list[str]]) -> None:
    run, _ = finished
    page = (PROJECT / "docs" / "report-and-verdict.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(.+?)` \|", page.partition("\n## ")[0], re.MULTILINE))
    if importlib.util.find_spec("tensorboard") is None:
        named.remove("events/")
    found = {path.name + "/" * path.is_dir() for path in (run / "report").iterdir()}
    assert found == named


def test_result_and_verdict_agree(finished: tuple[Path, list[str]]) -> None:
    run, _ = finished
    result = json.loads((run / "result.json").read_text())
    verdict = json.loads((run / "report" / "verdict.json").read_text())
    assert result["verdict"] == verdict["name"] in {"poisoned", "no_sign", "cannot_tell"}
    assert result["suspected_target"] == verdict["suspected_target"]
    assert result["estimated_poisoned"] == verdict["estimated_poisoned"]
    assert 0 <= result["suspects_auroc"] <= 1 and 0 <= result["suspects_precision"] <= 1


def test_the_report_can_be_written_anew_without_training(
    finished: tuple[Path, list[str]],
) -> None:
    run, arguments = finished
    before = {file.name: file.read_bytes() for file in (run / "report").glob("*.*")}
    checkpoint = (run / "checkpoint" / "latest_model.pt").read_bytes()
    (run / "report" / "suspects.csv").unlink()
    assert ASD.main([*arguments, "--report"]) == 0
    assert {file.name: file.read_bytes() for file in (run / "report").glob("*.*")} == before
    assert (run / "checkpoint" / "latest_model.pt").read_bytes() == checkpoint


def test_a_report_of_nothing_is_refused(
    tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ASD.main([*tiny_arguments, "--report"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("no_sign", 0), ("poisoned", 3), ("cannot_tell", 4)])
def test_the_exit_code_can_stop_a_release(
    finished: tuple[Path, list[str]], name: str, code: int
) -> None:
    run, arguments = finished
    path = run / "result.json"
    told = path.read_text()
    path.write_text(json.dumps({**json.loads(told), "verdict": name}))
    try:
        assert ASD.main([*arguments, "--fail-on-suspicion"]) == code
        assert ASD.main(arguments) == 0
    finally:
        path.write_text(told)


def test_no_result_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    assert read_verdict(tmp_path / "result.json") is None
    assert exit_code(None) == 4


def test_a_mislabelled_seed_is_named() -> None:
    findings = made_up(poisoned_from=1000)
    findings.opinion.given[:] = 0.95
    findings.opinion.given[findings.seeds[4]] = 1e-4
    assert findings.doubtful_seeds == [int(findings.seeds[4])]
    (line,) = doubts(findings)
    assert (
        line.startswith("1 verified samples look")
        and repr(findings.name(int(findings.seeds[4]))) in line
    )
    findings.opinion.given[findings.seeds[4]] = 0.95
    assert doubts(findings) == []


def test_an_attack_that_poisons_nothing_is_a_false_alarm_test(
    tmp_path: Path, tiny_arguments: list[str]
) -> None:
    assert ASD.main([*tiny_arguments, "report=true", "backdoor.poison_ratio=0"]) == 0
    result = json.loads((tmp_path / "digits" / "result.json").read_text())
    assert result["poisoned_samples"] == 0 and 0 <= result["asr"] <= 1
    assert "suspects_auroc" not in result
    assert (tmp_path / "digits" / "report" / "report.html").exists()


def test_the_furthest_rise_is_told_and_standing_still_is_not(tmp_path: Path) -> None:
    findings = make_findings()
    write_suspects(findings, tmp_path)
    verdict = Verdict("poisoned", "class 1", 5)
    (tmp_path / VERDICT_FILE).write_text(json.dumps(asdict(verdict)))
    told = "ranking: 40 of the 40 worst were among the worst before"
    assert what_moved(tmp_path, findings, verdict)[-1] == told
    score = findings.score.clone()
    score[20] = 2.0  # was the 21st, of scores that fall with the index
    moved = what_moved(tmp_path, replace(findings, score=score), verdict)
    assert moved[-1] == f"{told}; {findings.name(20)} has risen furthest, from rank 21 to 1"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TrainingError("a.csv could not be written: why"), "a.csv could not be written: why"),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "a.csv"),
            "report cannot be written: Read-only file system; make it accessible, or name another "
            "place",
        ),
    ],
    ids=["of a writer", "of the system"],
)
def test_what_keeps_a_report_from_being_written_is_told_once(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(write, "_write", fail)
    session: Any = SimpleNamespace(folder=SimpleNamespace(report="report"))
    nothing: Any = None
    with pytest.raises(InputError) as caught:
        write.write_report(session, nothing, nothing, {})
    assert str(caught.value) == f"report: {told}"

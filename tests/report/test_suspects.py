"""`suspects.csv` as a spreadsheet opens it, and as it comes back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from data.review import read_review
from report.findings import Findings
from report.suspects import FILE_NAME, read_ranks, write_suspects
from tests.report.report_example import make_findings
from utils.tables import read_table
from utils.texts import read_text

EVIL = '=HYPERLINK("http:evil","x")'


def named(pattern: str) -> Findings:
    findings = make_findings()
    files = tuple(pattern.format(index) for index in range(len(findings)))
    classes = (EVIL, "@x", "Größe", "+1")
    training = replace(findings.training, files=files, classes=classes)
    return replace(findings, training=training)


def test_no_cell_is_a_formula_and_all_names_come_back(tmp_path: Path) -> None:
    findings = named(EVIL + "/-{0}, ü.png")
    write_suspects(findings, tmp_path)
    file = tmp_path / FILE_NAME
    raw = file.read_bytes().decode("utf-8")
    assert raw.startswith("\ufeffrank,file,")
    assert not any(sign in raw for sign in (",=", ",@", ",+", '"=', '"@', '"+', ',"-'))
    table = read_table(read_text(file, "report"), ("file", "label"))
    order = findings.order.tolist()
    assert [row.cells["file"] for row in table.rows] == [findings.name(i) for i in order]
    labels = findings.training.labels.tolist()
    given = [findings.training.classes[labels[index]] for index in order]
    assert [row.cells["label"] for row in table.rows] == given


def test_ranks_are_read_with_and_without_the_mark(tmp_path: Path) -> None:
    findings = named("=a/{0}.png")
    write_suspects(findings, tmp_path)
    file = tmp_path / FILE_NAME
    wanted = {findings.name(i): rank for rank, i in enumerate(findings.order.tolist(), 1)}
    assert read_ranks(file) == wanted
    file.write_bytes(file.read_bytes()[3:])
    assert read_ranks(file) == wanted


def test_a_foreign_file_has_no_ranks(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    for body in (b"", b"file,rank\na,x\n", b"file,rank\n" + b"a" * 200_000, b"\0", b'file,rank\n"'):
        file.write_bytes(body)
        assert read_ranks(file) == {}
    assert read_ranks(tmp_path / "none") == {}
    os.mkfifo(tmp_path / "pipe")  # nobody will ever write
    assert read_ranks(tmp_path / "pipe") == {}


def test_a_list_with_a_verdict_added_is_a_review(tmp_path: Path) -> None:
    findings = named(EVIL + "/-{0}, ü.png")
    write_suspects(findings, tmp_path)
    head, *rows = (tmp_path / FILE_NAME).read_text("utf-8").splitlines()
    lines = [f"{head},verdict", *(f"{row},poisoned" for row in rows[:3]), f"{rows[3]},clean"]
    (tmp_path / "review.csv").write_text("\n".join(lines), encoding="utf-8")
    review = read_review(str(tmp_path / "review.csv"), findings.training)
    assert review.rejected.tolist() == [0, 1, 2] and review.accepted.tolist() == [3]

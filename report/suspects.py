"""`suspects.csv`: every training sample, the most suspicious first, with what speaks against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.formats.format import rounded
from report.findings import Findings
from report.marks import read_marks
from utils.errors import InputError
from utils.files import first_free, write_text
from utils.tables import read_table, table_text
from utils.texts import read_text

FILE_NAME = "suspects.csv"
ALWAYS = (  # columns; `loss_<stage>` and `witness_<name>` beside them
    *("rank", "file", "index", "label", "predicted", "probability", "score", "given_probability"),
    *("reduction", "polluted_epochs", "vetoed_by", "kept", "poisoned"),
    *("given_label", "predicted_label", "is_label_issue", "label_quality"),
)


def suspects(findings: Findings, first: int | None = None) -> list[dict[str, Any]]:
    """Return a row for each of the `first` most suspicious samples, or for all.

    The columns: `rank` from 1; `file`, relative to the data set's folder, or the number where there
    are no files; `index`, the number; `label`, as given; `predicted`, the model's own label, and
    its `probability`; `score` in 0..1; `given_probability`, that the model gives to the given
    label; `loss_<stage>` at the stage's last split; `reduction`, mean of the last meta-splits;
    `polluted_epochs`, spent in the polluted pool; `witness_<name>`, each witness's suspicion in
    robust deviations, and `vetoed_by`, the names of those that veto the label; `kept`, 1 in
    `purified.txt`; `poisoned`, 1 or 0, in a benchmark run only; and four that cleanlab calls so:
    `given_label`, `predicted_label`, `is_label_issue`, True for what is not kept, and
    `label_quality`, low where a label is doubtful.
    """
    return [row_of(findings, rank, i) for rank, i in enumerate(findings.order[:first].tolist(), 1)]


def row_of(findings: Findings, rank: int, index: int) -> dict[str, Any]:
    """Return the row of the sample `index`."""
    opinion, history, classes = findings.opinion, findings.history, findings.training.classes
    row: dict[str, Any] = {
        "rank": rank,
        "file": findings.name(index),
        "index": index,
        "label": classes[int(findings.training.labels[index])],
        "predicted": classes[int(opinion.predicted[index])],
        "probability": rounded(opinion.probability[index]),
        "score": rounded(findings.score[index]),
        "given_probability": rounded(opinion.given[index]),
    }
    for stage, loss in history.losses.items():
        row["loss_" + stage.replace("-", "_")] = rounded(loss[index])
    if findings.reduction is not None:
        row["reduction"] = rounded(findings.reduction[index])
    if history.polluted is not None:
        row["polluted_epochs"] = int(history.polluted[index])
    statements = findings.testimony.statements
    for name, said in statements.items():
        row[f"witness_{name}"] = rounded(said.suspicion[index])
    if statements:
        row["vetoed_by"] = " ".join(name for name, s in statements.items() if s.vetoed[index])
    row["kept"] = int(findings.kept[index])
    if findings.poisoned is not None:
        row["poisoned"] = int(findings.poisoned[index])
    row["given_label"], row["predicted_label"] = row["label"], row["predicted"]
    row["is_label_issue"] = not bool(findings.kept[index])
    row["label_quality"] = rounded(1 - findings.score[index])
    return row


def write_suspects(findings: Findings, folder: Path) -> list[str]:
    """Write `suspects.csv` to `folder`; return lines to say.

    What a person has added to the one before stays: columns beside those of the report, and a file
    that is no longer such a table, or that marks samples on which this run does not train.
    """
    path, rows, lines = folder / FILE_NAME, suspects(findings), []
    marks = read_marks(path, is_own)
    if marks is None or marks.cells.keys() - {row["file"] for row in rows}:
        what = "is no table of samples" if marks is None else "marks samples that are not there"
        kept = path.rename(first_free(path, path.suffix))
        lines = [f"report: {path} {what} any more; it is kept as {kept.name}"]
    if marks is not None and marks.columns:
        rows = [row | marks.on(row["file"]) for row in rows]
    write_text(path, table_text(list(rows[0]), rows, mark=True))
    return lines


def is_own(column: str) -> bool:
    """Return whether a column is the report's, and not one that a person has added."""
    return column in ALWAYS or column.startswith(("loss_", "witness_"))


def read_ranks(path: Path) -> dict[str, int]:
    """Return the rank of each `file` in an earlier `suspects.csv`; empty where there is none."""
    try:
        table = read_table(read_text(path, "report", raw_names=True), ("file", "rank"))
        return {row.cells["file"]: int(row.cells["rank"]) for row in table.rows}
    except (InputError, ValueError):
        return {}  # another program's file, or none: then there is nothing to compare with

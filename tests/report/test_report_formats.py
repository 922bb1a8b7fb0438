"""`report_formats`: through a whole run, and refused where a name is none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import ASD


def test_a_run_writes_what_is_asked_for(
    tmp_path: Path, tiny_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = "report_formats=[fiftyone, label_studio, sarif, cleanlab, sarif]"
    assert ASD.main([*tiny_arguments, "report=true", wanted]) == 0
    report = tmp_path / "digits" / "report"
    out = capsys.readouterr().out
    assert out.count("SARIF: ") == 1
    with (report / "suspects.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    probabilities = np.load(report / "pred_probs.npy")
    assert probabilities.shape == (300, 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    classes = json.loads((report / "fiftyone" / "labels.json").read_text())["classes"]
    predicted = [classes.index(row["predicted_label"]) for row in rows]
    assert probabilities.argmax(axis=1).tolist() == predicted
    for row in rows:
        assert (row["given_label"], row["predicted_label"]) == (row["label"], row["predicted"])
        assert row["is_label_issue"] == ("False" if row["kept"] == "1" else "True")
        assert float(row["label_quality"]) == pytest.approx(1 - float(row["score"]), abs=1e-5)
    tasks = json.loads((report / "label_studio" / "tasks.json").read_text())
    assert [task["data"]["rank"] for task in tasks] == list(range(1, 301))
    last = int(tasks[-1]["data"]["file"])  # the least suspicious
    looked_at_again(tmp_path / "digits", last, tiny_arguments)
    tasks = json.loads((report / "label_studio" / "tasks.json").read_text())
    assert tasks[0]["data"]["file"] == str(last)
    image = tasks[0]["data"]["image"].rpartition("=")[2]
    assert any(image.endswith(found) for found in named_in(report))


def looked_at_again(run: Path, poisoned: int, arguments: list[str]) -> None:
    """Rank anew with a review, on another machine; nothing is asked for another tool."""
    trained_on = {"device": "a GPU", "engine": "fast", "git_commit": "f" * 40, "versions": {}}
    result = json.loads((run / "result.json").read_text()) | trained_on
    (run / "result.json").write_text(json.dumps(result))
    review = run.parent / "review.csv"
    review.write_text(f"file,verdict\n{poisoned},poisoned\n")
    assert ASD.main([*arguments, f"review={review}", "--report"]) == 0
    told = json.loads((run / "result.json").read_text())
    assert told.items() >= trained_on.items()
    assert told["reported_with"]["device"].startswith("CPU")
    model = json.loads((run / "model.json").read_text())
    assert (model["git_commit"], model["versions"]) == ("f" * 40, {})
    assert (told["tested_samples"], told["tested_on_held_out"]) == (360, False)
    assert "accuracy on 360 test images" in (run / "model_card.md").read_text(encoding="utf-8")
    assert "share of 360 test images" in (run / "report" / "report.html").read_text("utf-8")


def named_in(report: Path) -> list[str]:
    """What the SARIF log names."""
    (run,) = json.loads((report / "asd.sarif").read_text())["runs"]
    places = (result["locations"][0]["physicalLocation"] for result in run["results"])
    return [place["artifactLocation"]["uri"] for place in places]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[fiftyon]", "did you mean 'fiftyone'?"),
        ("sarif", "report_formats"),
        ("[1]", "report_formats"),
        ("[{a: 1}]", "report_formats"),
    ],
)
def test_what_is_no_format_is_told(
    tiny_arguments: list[str], capsys: pytest.CaptureFixture[str], given: str, told: str
) -> None:
    assert ASD.main([*tiny_arguments, "--check", f"report_formats={given}"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1

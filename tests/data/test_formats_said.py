"""Formats of other tools: what people said in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.formats import Listing
from data.review import read_review
from tests.data.test_formats import FILES, listing, written
from utils.errors import InputError


def annotation(choice: str, cancelled: bool = False) -> dict[str, Any]:
    result = {"from_name": "verdict", "to_name": "image", "type": "choices"}
    return {"was_cancelled": cancelled, "result": [{**result, "value": {"choices": [choice]}}]}


def label_studio_export(tasks: list[dict[str, Any]]) -> Any:
    tasks[0]["annotations"] = [annotation("clean", cancelled=True), annotation("poisoned")]
    tasks[1]["annotations"] = [annotation("Clean")]
    tasks[2]["annotations"] = [annotation("unsure")]
    return tasks  # the other predictions say `clean`, which nobody has said


def label_studio_without_our_fields(tasks: list[dict[str, Any]]) -> Any:
    label_studio_export(tasks)
    return [{**task, "data": {"image": task["data"]["image"]}} for task in tasks]


def label_studio_minimal(tasks: list[dict[str, Any]]) -> Any:
    rows = [{**task["data"], "id": number} for number, task in enumerate(tasks)]
    rows[0]["verdict"], rows[1]["verdict"] = "poisoned", {"choices": ["clean"]}
    return rows


@pytest.mark.parametrize(
    "export", [label_studio_export, label_studio_without_our_fields, label_studio_minimal]
)
@pytest.mark.parametrize("files", [FILES, None])
def test_label_studio_exports_are_reviews(
    tmp_path: Path, export: Callable[[Any], Any], files: tuple[str, ...] | None
) -> None:
    given = listing(files)
    tasks = written(tmp_path, "label_studio", "label_studio/tasks.json", given)
    review = tmp_path / "export.json"
    review.write_text(json.dumps(export(tasks)))
    found = read_review(str(review), given.training)
    assert (found.rejected.tolist(), found.accepted.tolist()) == ([5], [4])


def fiftyone_samples(labels: dict[str, Any]) -> Any:
    """Return the export of a FiftyOneDataset, its images flat in `data/`."""
    samples = []
    for number, (name, label) in enumerate(labels.items()):
        attributes = label.pop("attributes")
        truth = {"_cls": "Classification", "tags": [], **label, **attributes}
        path = f"data/{name.rpartition('/')[2]}"
        samples.append({"filepath": path, "tags": [], "ground_truth": truth, "x": None, "y": 1})
        assert number or samples[0]["ground_truth"]["rank"] == 1
    samples[0]["tags"] = ["validation", "poisoned"]
    samples[1]["ground_truth"]["tags"] = ["clean"]
    return {"samples": samples}


def fiftyone_flat(labels: dict[str, Any]) -> Any:
    content = fiftyone_samples(labels)
    for sample in content["samples"]:
        sample["ground_truth"] = {"label": "a", "tags": sample["ground_truth"]["tags"]}
    return content


def fiftyone_labels(labels: dict[str, Any]) -> Any:
    names = list(labels)
    return {
        "classes": ["clean", "poisoned"],
        "labels": {names[0]: "poisoned", names[1]: {"label": "clean"}, names[2]: None},
    }


def fiftyone_tagged_labels(labels: dict[str, Any]) -> Any:
    names = list(labels)
    labels[names[0]]["tags"] = ["poisoned"]
    labels[names[1]]["attributes"]["tags"] = ["clean"]
    return {"classes": ["a", "b"], "labels": labels}


@pytest.mark.parametrize(
    "export", [fiftyone_samples, fiftyone_flat, fiftyone_labels, fiftyone_tagged_labels]
)
def test_fiftyone_exports_are_reviews(tmp_path: Path, export: Callable[[Any], Any]) -> None:
    labels = written(tmp_path, "fiftyone", "fiftyone/labels.json")["labels"]
    review = tmp_path / "export.json"
    review.write_text(json.dumps(export(labels)))
    found = read_review(str(review), listing().training)
    assert (found.rejected.tolist(), found.accepted.tolist()) == ([5], [4])


def refused(tmp_path: Path, content: Any, given: Listing | None = None) -> str:
    review = tmp_path / "export.json"
    review.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match="review: ") as caught:
        read_review(str(review), (given or listing()).training)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_we_wrote_ourselves_is_no_review(tmp_path: Path) -> None:
    """Also where classes are called as verdicts are: a label is no verdict then."""
    for given in (listing(), listing(classes=("clean", "Poisoned"))):
        content = written(tmp_path, "fiftyone", "fiftyone/labels.json", given)
        assert "calls no sample clean or poisoned" in refused(tmp_path, content, given)
        tasks = written(tmp_path, "label_studio", "label_studio/tasks.json", given)
        assert "calls no sample clean or poisoned" in refused(tmp_path, tasks, given)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"labels": {"x": "clean", "x": "poisoned"}}', "'x' is there twice"),
        ('{"a": ' + "9" * 5000 + "}", "no JSON"),
        ([], "no export of FiftyOne or Label Studio"),
        ([1, None, "x"], "no export of FiftyOne or Label Studio"),
        ({"samples": 3, "labels": []}, "no export of FiftyOne or Label Studio"),
        ({"samples": [None, 3, {"tags": 3, "filepath": []}]}, "calls no sample"),
        ({"samples": [{"tags": ["clean"]}]}, "sample 0: there is no training sample ''"),
        ({"labels": {"train/a/9": "clean"}}, "label 'train/a/9': there is no training sample"),
        ({"labels": {"other/b/Größe 0": "clean"}}, "there is no training sample"),
        ({"samples": [{"filepath": FILES[0], "tags": ["clean", "poisoned"]}]}, "called clean"),
        ([{"data": {"image": "http://[x"}, "annotations": [annotation("clean")]}], "task 0"),
        ([{"data": 3, "annotations": {"result": 3}}], "calls no sample"),
    ],
)
def test_what_is_no_review_is_told_in_a_line(tmp_path: Path, content: Any, told: str) -> None:
    assert told in refused(tmp_path, content)


def test_an_image_of_another_class_folder_is_not_taken_for_ours(tmp_path: Path) -> None:
    """`Größe 0.png` is one file here, in class a; the same name in another folder is another."""
    content = {"samples": [{"filepath": "/elsewhere/c/Größe 0.png", "tags": ["clean"]}]}
    assert "no training sample" in refused(tmp_path, content)
    content["samples"][0]["filepath"] = "/elsewhere/train/a/Größe 0.png"
    (tmp_path / "export.json").write_text(json.dumps(content))
    assert read_review(str(tmp_path / "export.json"), listing().training).accepted.tolist() == [0]

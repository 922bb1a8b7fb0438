"""Formats of other tools: what is written for them, and what people said in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from data.formats import FORMATS, Listing, write_formats
from data.home import Home
from data.poison import TrainingSet
from data.review import read_review
from tests.conftest import colourful_images
from utils.errors import InputError

COUNT = 6
HOME = Home(Path("/sets/ours"))
FILES = tuple(f"train/{'ab'[i % 2]}/Größe {i}.png" for i in range(COUNT))


def listing(
    files: tuple[str, ...] | None = FILES, classes: tuple[str, ...] = ("a", "b")
) -> Listing:
    """Return six samples: the last is the worst; 5 and 4 are not kept."""
    labels = torch.arange(COUNT) % 2
    probabilities = torch.full((COUNT, 2), 0.25)
    probabilities[:, 0] = 0.75
    return Listing(
        training=TrainingSet(colourful_images(COUNT, 4), labels, classes, files=files, home=HOME),
        order=torch.arange(COUNT - 1, -1, -1),
        score=torch.linspace(0, 1, COUNT),
        predicted=torch.zeros(COUNT, dtype=torch.int64),
        probability=torch.full((COUNT,), 0.75),
        given=probabilities.gather(1, labels[:, None])[:, 0],
        kept=torch.arange(COUNT) < 4,
        probabilities=probabilities,
        verdict="poisoned",
        targets=("b",),
    )


def written(tmp_path: Path, name: str, file: str, given: Listing | None = None) -> Any:
    lines = write_formats([FORMATS.get(name)()], given or listing(), tmp_path)
    assert str(tmp_path) in lines[0]
    return json.loads((tmp_path / file).read_text("ascii"))


def test_fiftyone_finds_images_by_names_without_endings(tmp_path: Path) -> None:
    content = written(tmp_path, "fiftyone", "fiftyone/labels.json")
    assert set(content) == {"classes", "labels"} and content["classes"] == ["a", "b"]
    assert list(content["labels"]) == [file[: -len(".png")] for file in reversed(FILES)]
    worst = content["labels"][FILES[5][:-4]]
    assert (worst["label"], worst["confidence"]) == ("b", 0.25)
    assert worst["attributes"]["file"] == FILES[5]
    assert (worst["attributes"]["rank"], worst["attributes"]["kept"]) == (1, False)


def test_fiftyones_layout_in_every_part(tmp_path: Path) -> None:
    """As its importer reads it: names are paths below the data's folder, without their endings."""
    given = listing()
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    content = written(tmp_path, "fiftyone", "fiftyone/labels.json", given)
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")]
    by_name = {path.with_suffix("").as_posix(): path.as_posix() for path in found}
    assert content["labels"].keys() == by_name.keys()
    for name, label in content["labels"].items():
        assert set(label) == {"label", "confidence", "attributes"}
        assert label["label"] in content["classes"]
        assert type(label["confidence"]) is float and 0 <= label["confidence"] <= 1
        plain = {key: type(value) for key, value in label["attributes"].items()}
        assert plain == {
            "file": str,
            "own_label": str,
            "own_probability": float,
            "suspicion": float,
            "rank": int,
            "kept": bool,
        }
        assert label["attributes"]["file"] == by_name[name]


def test_two_images_that_fiftyone_cannot_tell_apart_are_said(tmp_path: Path) -> None:
    files = ("a/1.png", "a/1.jpg", "a/.x", "b/2.png", "b/3.png", "b.b/4")
    lines = FORMATS.get("fiftyone")().write(listing(files), tmp_path)
    assert "1 images differ from another one in the ending only" in lines[1]
    content = json.loads((tmp_path / "fiftyone" / "labels.json").read_text())
    assert set(content["labels"]) == {"a/1", "a/.x", "b/2", "b/3", "b.b/4"}


def test_label_studio_gets_tasks_with_predictions(tmp_path: Path) -> None:
    tasks = written(tmp_path, "label_studio", "label_studio/tasks.json")
    assert [task["data"]["file"] for task in tasks] == list(reversed(FILES))
    address = tasks[0]["data"]["image"]
    assert address.startswith("/data/local-files/?d=train/b/Gr%C3%B6")
    assert unquote(address).endswith(FILES[5])
    prediction = tasks[0]["predictions"][0]
    assert prediction["score"] == 1 and prediction["result"][0]["value"] == {
        "choices": ["poisoned"]
    }
    assert tasks[5]["predictions"][0]["result"][0]["value"] == {"choices": ["clean"]}


def test_sarif_has_what_its_schema_asks_for(tmp_path: Path) -> None:
    log = written(tmp_path, "sarif", "asd.sarif")
    assert log["version"] == "2.1.0" and len(log["runs"]) == 1
    run = log["runs"][0]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert [unquote(uri_of(result)) for result in run["results"]] == [FILES[5], FILES[4]]
    for result in run["results"]:
        assert result["ruleId"] in rules and result["message"]["text"]
        assert result["level"] in {"none", "note", "warning", "error"}
        assert 0 <= result["rank"] <= 100 and result["partialFingerprints"]
        base = result["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"]
        assert base in run["originalUriBaseIds"]
    assert [result["level"] for result in run["results"]] == ["error", "warning"]  # b is the target


def uri_of(result: dict[str, Any]) -> str:
    return result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_sarif_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.sarif.MOST", 1)
    lines = FORMATS.get("sarif")().write(listing(), tmp_path)
    assert lines[1] == "it holds the first 1 of 2 suspects"


def test_cleanlab_gets_probabilities_in_the_order_of_the_samples(tmp_path: Path) -> None:
    FORMATS.get("cleanlab")().write(listing(), tmp_path)
    probabilities = np.load(tmp_path / "pred_probs.npy", allow_pickle=False)
    assert probabilities.dtype == np.float32 and probabilities.shape == (COUNT, 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
    labels = np.load(tmp_path / "given_labels.npy", allow_pickle=False)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("name", list(FORMATS))
def test_names_that_are_no_text_and_sets_without_files_are_written(
    tmp_path: Path, name: str
) -> None:
    files = tuple(f"a/\udce9\u2028{i}.png" for i in range(COUNT))
    for given in (listing(files), listing(None)):
        assert FORMATS.get(name)().write(given, tmp_path)
    texts = [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".sarif")]
    assert texts or name == "cleanlab"  # which has CSV and NumPy files
    assert all(path.read_bytes().isascii() for path in texts)


# ------------------------------------------------------------------------------ what people said


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
        path = f"data/{name.rpartition('/')[2]}.png"
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

"""Formats of other tools: what is written for them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from data.formats import FORMATS, Listing, write_formats
from data.home import Home
from data.poison import TrainingSet
from tests.conftest import colourful_images

COUNT = 6
HOME = Home(Path("/sets/ours"))
FILES = tuple(f"train/{'ab'[i % 2]}/Größe {i}.png" for i in range(COUNT))


def listing(
    files: tuple[str, ...] | None = FILES,
    classes: tuple[str, ...] = ("a", "b"),
    home: Home | None = HOME,
) -> Listing:
    """Return six samples: the last is the worst; 5 and 4 are not kept."""
    labels = torch.arange(COUNT) % 2
    probabilities = torch.full((COUNT, 2), 0.25)
    probabilities[:, 0] = 0.75
    return Listing(
        training=TrainingSet(colourful_images(COUNT, 4), labels, classes, files=files, home=home),
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


def imported(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return image and label of each sample, as FiftyOne 1.22.1 puts them together.

    Of `data.json` it takes the last ending off each name, and looks for the names of `labels.json`.
    """
    labels = json.loads((folder / "labels.json").read_text("ascii"))["labels"]
    places = json.loads((folder / "data.json").read_text("ascii"))
    by_name = {os.path.normpath(os.path.splitext(key)[0]): place for key, place in places.items()}
    assert len(by_name) == len(places)
    return {name: (by_name[name], label) for name, label in labels.items()}


def test_fiftyone_is_told_where_each_image_is(tmp_path: Path) -> None:
    content = written(tmp_path, "fiftyone", "fiftyone/labels.json")
    assert set(content) == {"classes", "labels"} and content["classes"] == ["a", "b"]
    assert list(content["labels"]) == list(reversed(FILES))
    worst = content["labels"][FILES[5]]
    assert (worst["label"], worst["confidence"]) == ("b", 0.25)
    assert worst["attributes"]["file"] == FILES[5]
    assert (worst["attributes"]["rank"], worst["attributes"]["kept"]) == (1, False)
    for name, (place, label) in imported(tmp_path / "fiftyone").items():
        assert place == f"/sets/ours/{name}" == f"/sets/ours/{label['attributes']['file']}"
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


def test_fiftyone_shows_the_image_that_is_judged(tmp_path: Path) -> None:
    """Of files that differ in the ending alone, beside any other file, each is itself."""
    stems = ("a.png", "a.jpg", "a", "a.b.png", "a.b", ".x")
    files = tuple(f"train/a/{stem}" for stem in stems)
    given = listing(files)
    assert write_formats([FORMATS.get("fiftyone")()], given, tmp_path)
    found = imported(tmp_path / "fiftyone")
    assert {place for place, _ in found.values()} == {f"/sets/ours/{file}" for file in files}
    for place, label in found.values():
        file = label["attributes"]["file"]
        assert place == f"/sets/ours/{file}"
        assert label["attributes"]["rank"] == COUNT - files.index(file)


def test_fiftyone_is_given_no_name_that_its_database_refuses(tmp_path: Path) -> None:
    files = ("train/a/\udce9.png", *FILES[1:])
    lines = FORMATS.get("fiftyone")().write(listing(files), tmp_path)
    assert len(imported(tmp_path / "fiftyone")) == COUNT - 1
    assert lines[1].startswith("1 images have a name that is no text")


@pytest.mark.parametrize("checked", [Path("/checked"), HOME.root / "checked"])
def test_a_verified_image_of_another_folder_is_where_it_is(tmp_path: Path, checked: Path) -> None:
    """It is called `seeds/<class>/<file>`, and no such path is there."""
    added = "seeds/b/\u00fc 1.png"
    given = listing((*FILES[:5], added), home=Home(HOME.root, checked))
    place = checked / "b" / "\u00fc 1.png"
    formats = [FORMATS.get(name)() for name in ("fiftyone", "label_studio", "sarif")]
    lines = write_formats(formats, given, tmp_path)
    assert imported(tmp_path / "fiftyone")[added][0] == str(place)
    tasks = json.loads((tmp_path / "label_studio" / "tasks.json").read_text("ascii"))
    log = json.loads((tmp_path / "asd.sarif").read_text("ascii"))
    where = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    if checked.parent == HOME.root:
        assert unquote(tasks[0]["data"]["image"]).endswith("?d=checked/b/\u00fc 1.png")
        assert unquote(where["uri"]) == "checked/b/\u00fc 1.png" and "uriBaseId" in where
        assert len(tasks) == COUNT
    else:
        assert [task["data"]["file"] for task in tasks] == list(reversed(FILES[:5]))
        assert "1 verified images lie outside of the data set's folder; not in it" in lines
        assert where == {"uri": place.as_uri()}


@pytest.mark.parametrize("files", [FILES, None])
def test_where_no_file_holds_what_was_seen_the_export_is_named(
    tmp_path: Path, files: tuple[str, ...] | None
) -> None:
    """An attack of our own: a reviewer would see the pictures as they were before it."""
    given = listing(files, home=None)
    for name in FORMATS:
        (tmp_path / name).mkdir()
        lines = write_formats([FORMATS.get(name)()], given, tmp_path / name)
        assert ("--export FOLDER" in lines[-1]) is (name != "cleanlab")
    labels = json.loads((tmp_path / "fiftyone" / "fiftyone" / "labels.json").read_text("ascii"))
    assert list(labels["labels"]) == [f"train/{'ab'[i % 2]}/{i}" for i in reversed(range(COUNT))]
    assert not (tmp_path / "fiftyone" / "fiftyone" / "data.json").exists()
    told = labels["labels"]["train/b/5"]["attributes"]["file"]
    assert told == given.training.name(5)
    folder = tmp_path / "label_studio" / "label_studio"
    image = json.loads((folder / "tasks.json").read_text("ascii"))[0]["data"]["image"]
    assert image.endswith("?d=train/b/5.png")
    log = json.loads((tmp_path / "sarif" / "asd.sarif").read_text("ascii"))
    assert [uri_of(result) for result in log["runs"][0]["results"]] == [
        "train/b/5.png",
        "train/a/4.png",
    ]


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
    clean = tasks[4]["predictions"][0]
    assert clean["result"][0]["value"] == {"choices": ["clean"]}
    assert clean["score"] == pytest.approx(0.8) and tasks[4]["data"]["suspicion"] == pytest.approx(
        0.2
    )


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


def test_github_gets_what_it_wants_of_a_result_and_a_rule(tmp_path: Path) -> None:
    """Code scanning needs them all; sarif-multitool names what is missing as GH1001 and on."""
    run = written(tmp_path, "sarif", "asd.sarif")["runs"][0]
    for rule in run["tool"]["driver"]["rules"]:
        assert rule["id"] and rule["defaultConfiguration"]["level"]
        for text in ("shortDescription", "fullDescription", "help"):
            assert rule[text]["text"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"] and result["partialFingerprints"]
        (where,) = (each["physicalLocation"] for each in result["locations"])
        assert where["artifactLocation"]["uri"] and where["region"]["startLine"] >= 1


def test_a_class_name_is_no_link_and_no_placeholder(tmp_path: Path) -> None:
    names = ("[x](http:evil.example)", "{0} \\[")
    log = written(tmp_path, "sarif", "asd.sarif", listing(classes=names))
    for result, given in zip(log["runs"][0]["results"], reversed(names), strict=True):
        text = result["message"]["text"]
        assert not set(re.sub(r"\\.|\{\{|\}\}", "", text)) & set("[]{}\\")
        plain = re.sub(r"\\(.)", r"\1", text).replace("{{", "{").replace("}}", "}")
        assert plain.startswith(f"Labelled {given!r}; the model sees {names[0]!r} (75%).")


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

"""What is written for other tools, read by these tools themselves where they are installed.

cleanlab and sarif-tools come with requirements-dev.txt. Label Studio's SDK and FiftyOne bring
hundreds of megabytes; `pip install label-studio-sdk fiftyone` brings their tests to life. FiftyOne
works only with a MongoDB server, which its installation downloads from fastdl.mongodb.org: where
that host cannot be reached, its test cannot run. Without them the layouts are checked in
test_formats.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats import FORMATS
from data.home import Home
from data.review import read_review
from tests.data.test_formats import FILES, listing


def test_cleanlab_ranks_by_what_we_wrote(tmp_path: Path) -> None:
    filter_ = pytest.importorskip("cleanlab.filter")
    FORMATS.get("cleanlab")().write(listing(), tmp_path)
    labels = np.load(tmp_path / "given_labels.npy")
    probabilities = np.load(tmp_path / "pred_probs.npy")
    probabilities[1] = (0.01, 0.99)
    rank = pytest.importorskip("cleanlab.rank")
    quality = rank.get_label_quality_scores(labels, probabilities, method="self_confidence")
    assert quality.tolist() == pytest.approx([0.75, 0.99, 0.75, 0.25, 0.75, 0.25])
    issues = filter_.find_label_issues(labels, probabilities, filter_by="predicted_neq_given")
    assert np.nonzero(issues)[0].tolist() == [3, 5]


def test_sarif_tools_read_the_log(tmp_path: Path) -> None:
    loader = pytest.importorskip("sarif.loader")
    FORMATS.get("sarif")().write(listing(), tmp_path)
    log = loader.load_sarif_file(str(tmp_path / "asd.sarif"))
    assert log.get_distinct_tool_names() == ["ASD"]
    assert log.get_report().get_issue_count_for_severity("error") == 1
    records = log.get_records()
    assert [record["Severity"] for record in records] == ["error", "warning"]
    assert all("suspect-label" in record["Code"] for record in records)


def test_label_studio_accepts_tasks_and_interface(tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    FORMATS.get("label_studio")().write(listing(), tmp_path)
    config = (tmp_path / "label_studio" / "config.xml").read_text()
    found = interface.LabelInterface(config)
    found.validate()
    assert set(found.get_control("verdict").labels) == {"clean", "poisoned"}
    tasks = json.loads((tmp_path / "label_studio" / "tasks.json").read_text())
    for task in tasks:
        # With predictions the SDK's own `validate_task` fails on every task; so one by one.
        assert found.validate_task({"data": task["data"]})
        assert found.validate_prediction(task["predictions"][0])


def test_fiftyone_imports_and_its_tags_come_back(tmp_path: Path) -> None:
    fiftyone = pytest.importorskip("fiftyone")
    given = listing(home=Home(tmp_path))
    for index, file in enumerate(FILES):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(given.training.images[index].numpy()).save(tmp_path / file)
    FORMATS.get("fiftyone")().write(given, tmp_path)
    dataset = fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.FiftyOneImageClassificationDataset,
        data_path=str(tmp_path / "fiftyone" / "data.json"),
        labels_path=str(tmp_path / "fiftyone" / "labels.json"),
    )
    assert len(dataset) == len(FILES)
    for sample in dataset:
        if sample.filepath.endswith((FILES[5], FILES[4])):
            sample.tags.append("poisoned" if sample.filepath.endswith(FILES[5]) else "clean")
            sample.save()
    dataset.export(
        export_dir=str(tmp_path / "out"),
        dataset_type=fiftyone.types.FiftyOneDataset,
        export_media=False,
    )
    review = read_review(str(tmp_path / "out" / "samples.json"), given.training)
    assert (review.rejected.tolist(), review.accepted.tolist()) == ([5], [4])

"""`model_card.md`: metadata that a hub reads, and nothing of strangers that does anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import ASD
from data.transform.settings import TransformSection
from model import NETWORKS
from report.card import model_card
from report.verdict import Verdict
from run.product import Description, FrameSection
from utils.choice import Choice

EVIL = "```\n---\n# [x](http://evil) <img src=http://evil>`\udce9"


def card(result: dict[str, Any], name: str = "run", classes: tuple[str, ...] = ("a", "b")) -> str:
    network = Choice("resnet18_cifar", NETWORKS.get("resnet18_cifar").Settings())
    description = Description.model_construct(
        network=network,
        classes=list(classes),
        input_size=[32, 24],
        dataset="image_folder",
        frame=FrameSection(size=32),
        transform=TransformSection(),
    )
    verdict = Verdict("poisoned", classes[0], 7, {}, (f"Class {classes[0]} is odd.",))
    return model_card(name, result, description, verdict)


def head_of(text: str) -> dict[str, Any]:
    start, head, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(head)


def test_a_run_leaves_a_card_that_says_what_its_result_says(
    tmp_path: Path, tiny_arguments: list[str]
) -> None:
    assert ASD.main(tiny_arguments) == 0
    text = (tmp_path / "digits" / "model_card.md").read_text("utf-8")
    result = json.loads((tmp_path / "digits" / "result.json").read_text())
    head = head_of(text)
    assert {"license", "library_name", "tags", "model-index"} <= set(head)
    entry = head["model-index"][0]["results"][0]
    metrics = {metric["type"]: metric["value"] for metric in entry["metrics"]}
    assert metrics == {
        "accuracy": round(result["acc"], 6),
        "attack_success_rate": round(result["asr"], 6),
    }
    assert f"{result['acc']:.2%}" in text and result["fingerprints"]["data"] in text
    assert "The data were poisoned on purpose" in text


def test_without_truth_and_test_images_nothing_is_made_up() -> None:
    text = card({"acc": None, "seeds_checked": False, "training_samples": 10})
    assert "ASR" not in text and "poisoned on purpose" not in text
    assert "there were no test images" in text and "Nobody had checked" in text
    assert head_of(text)["model-index"] == [{"name": "run", "results": []}]


def test_names_of_strangers_are_inert() -> None:
    text = card({"acc": 0.5, "seeds_checked": True}, name=EVIL, classes=(EVIL, "b"))
    text.encode("utf-8")
    assert head_of(text)["model-index"][0]["name"].startswith("???")
    body = text.split("---\n", 2)[2]
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert len(headings) == 7  # the title and six sections
    outside = "".join(body.split("```")[::2])  # without blocks of code
    assert "http://evil" not in "".join(outside.split("`")[::2])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("asd", "trained not to trust"),
        ("abl", "trained not to trust"),
        ("none", "trusted every label"),
        ("nad", "without a defence and then repaired"),
        ("fine_pruning", "without a defence and then repaired"),
    ],
)
def test_a_card_claims_no_defence_that_there_was_not(method: str, words: str) -> None:
    text = card({"defense": method, "seeds_checked": True})
    assert words in text
    assert ("not to trust" in text) == (method in ("asd", "abl"))
    assert "Trained by ASD" not in text

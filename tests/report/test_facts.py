"""What a report says of the run itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.poison import given_targets
from report.facts import facts
from tests.report.report_example import make_content


@pytest.mark.parametrize(
    ("backdoor", "told"),
    [
        ({"target_label": 1}, "badnets, 5 samples (12.5%), 4 target labels"),
        ({"label_rule": "all_to_all"}, "badnets, 5 samples (12.5%), each class to the next one"),
        ({"target_label": None}, "badnets, 5 samples (12.5%), 4 target labels"),
    ],
)
def test_an_attack_is_told_with_its_poison_rate_and_its_target(
    backdoor: dict[str, object], told: str
) -> None:
    content = make_content(config={"num_epochs": 6, "dataset": "digits", "backdoor": backdoor})
    assert facts(content)["attack"].replace("\N{NO-BREAK SPACE}", "") == told


def test_one_target_is_told_by_its_name() -> None:
    findings = make_content().findings
    of_class_1 = findings.training.labels == 1
    content = make_content(findings=replace(findings, poisoned=of_class_1))
    assert facts(content)["attack"].endswith("target 'class 1'")


def test_nothing_is_told_of_an_attack_where_nobody_knows_the_truth() -> None:
    assert "attack" not in facts(make_content(truth=False))


def test_the_target_is_what_the_poisoned_samples_were_given() -> None:
    labels, poisoned = torch.tensor([0, 1, 2, 2]), torch.tensor([True, True, False, False])
    assert given_targets(labels, poisoned, 2) == [0, 1]
    assert given_targets(labels, ~poisoned, 0) == [2]
    nothing = torch.zeros(4, dtype=torch.bool)
    assert (given_targets(labels, nothing, 1), given_targets(labels, nothing, None)) == ([1], [])

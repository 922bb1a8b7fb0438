"""What a report says of the run itself."""

from __future__ import annotations

import pytest

from report.facts import facts
from tests.report.report_example import make_content


@pytest.mark.parametrize(
    ("backdoor", "told"),
    [
        ({"target_label": 1}, "badnets, 5 samples (12.5%), target 'class 1'"),
        ({"label_rule": "all_to_all"}, "badnets, 5 samples (12.5%), each class to the next one"),
        ({"target_label": None}, "badnets, 5 samples (12.5%), its own labels"),
    ],
)
def test_an_attack_is_told_with_its_poison_rate_and_its_target(
    backdoor: dict[str, object], told: str
) -> None:
    content = make_content(config={"num_epochs": 6, "dataset": "digits", "backdoor": backdoor})
    assert facts(content)["attack"].replace("\N{NO-BREAK SPACE}", "") == told


def test_nothing_is_told_of_an_attack_where_nobody_knows_the_truth() -> None:
    assert "attack" not in facts(make_content(truth=False))

"""The numbers on the page about the verdict are the thresholds in force."""

from __future__ import annotations

import re

from report.judge import SMALLEST_SHARE, read_thresholds
from utils.files import PROJECT


def test_the_page_tells_the_thresholds_in_force() -> None:
    page = (PROJECT / "docs" / "report-and-verdict.md").read_text(encoding="utf-8")
    in_force = read_thresholds()

    def told(sentence: str) -> float:
        found = re.search(sentence, page)
        assert found, sentence
        return float(found[1].replace(",", ""))

    assert told(r"`broad_concentration` .*? from ([\d.]+\d) on") == in_force["poisoned_from"]
    assert told(r"must also give (\d+) % of the samples") == round(100 * in_force["accuse_from"], 6)
    assert told(r"certainty from ([\d.]+\d) on") == in_force["accuse_by_witness_from"]
    assert told(r"gives at least (\d+) % of the samples") == round(
        100 * in_force["agreement_from"], 6
    )
    assert told(r"would be less than (\d+)\.") == in_force["no_sign_samples"]
    smallest = in_force["no_sign_samples"] / SMALLEST_SHARE
    assert told(r"There are ([\d,]+) samples") == round(smallest, 6)

"""What the page is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.review import Review, no_review
from report.findings import Findings
from report.verdict import Verdict
from run.standing import Standing


@dataclass(frozen=True)
class PageContent:
    """What the page is made from.

    Attributes:
        findings: of each training sample; the truth is known where its `poisoned` is.
        verdict: of the data set as a whole.
        result: content of `result.json`, or what is known of a run that is not finished.
        rows: of the log, one an epoch; perhaps none.
        config: the merged configuration.
        manifest: content of `manifest.json`.
        title: of the page.
        standing: how far the run has come.
        review: what a person has said of samples before.
    """

    findings: Findings
    verdict: Verdict
    result: Mapping[str, Any]
    rows: list[dict[str, Any]]
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    title: str
    standing: Standing
    review: Review = field(default_factory=no_review)

    @property
    def finished(self) -> bool:
        """Whether the run reached its last epoch."""
        return self.standing.finished

    @property
    def tested_on(self) -> str:
        """On what ACC was measured."""
        return tested_images(self.result)

    @property
    def knows_truth(self) -> bool:
        """Whether it is known which samples are poisoned."""
        return self.findings.poisoned is not None


def tested_images(result: Mapping[str, Any]) -> str:
    """Return on what ACC was measured, with its number where a result tells it."""
    count = result.get("tested_samples")
    number = "" if count is None else f"{count:,} "
    if result.get("tested_on_held_out"):
        return f"{number}verified images that were held out of training"
    return f"{number}test images"

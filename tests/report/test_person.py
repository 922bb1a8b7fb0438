"""What a person has said of samples is heard by the verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from report.accusations import accusations_of, doubts_of, kinds_seen
from report.findings import Findings
from report.judge import judge
from report.verdict import Verdict
from tests.report.made_up import clean, made_up, with_witness


def called_poisoned(findings: Findings, label: int, count: int) -> Findings:
    """A person has looked at samples of one label and calls them poisoned; the model does not."""
    samples = torch.nonzero(findings.training.labels == label).flatten()[:count]
    return replace(findings, rejected=tuple(samples.tolist()))


def verdict_on(findings: Findings) -> Verdict:
    return judge(findings, accusations_of(findings), kinds_seen(findings), doubts_of(findings))


@pytest.mark.parametrize("count", [1, 4])
def test_no_all_clear_beside_a_sample_that_a_person_calls_poisoned(count: int) -> None:
    assert verdict_on(clean()).name == "no_sign"
    verdict = verdict_on(called_poisoned(clean(), 5, count))
    assert verdict.name == "cannot_tell"
    (reason,) = verdict.reasons
    assert reason.startswith(f"a person calls {count} sample")
    assert "labelled 'class 5' poisoned" in reason


@pytest.mark.parametrize("count", [5, 400])
def test_a_person_who_calls_several_samples_poisoned_accuses_their_label(count: int) -> None:
    verdict = verdict_on(called_poisoned(clean(), 5, count))
    assert (verdict.name, verdict.suspected_targets) == ("poisoned", ("class 5",))
    assert verdict.estimated_poisoned == count


def test_a_person_has_seen_a_part_of_what_model_and_witness_have() -> None:
    findings = made_up(950)
    alone = verdict_on(findings)
    assert verdict_on(called_poisoned(findings, 3, 7)).estimated_poisoned == (
        alone.estimated_poisoned
    )
    vetoed = findings.training.labels == 6
    heard = with_witness(findings, vetoed, {6: 0.2})
    said = accusations_of(called_poisoned(heard, 6, 90))[6]
    before = accusations_of(heard)[6]
    assert before.strength == pytest.approx(0.2)
    assert before.estimate.low < 90
    assert said.strength == 1.0
    assert said.estimate.low == 90
    assert said.reason.startswith(f"{before.reason}; a person calls 90 samples")

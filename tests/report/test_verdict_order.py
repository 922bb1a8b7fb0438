"""The verdict is one of the set of samples: neither their order nor that of the classes counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from report.accusations import accusations_of
from report.findings import Findings
from report.judge import judge
from tests.report.made_up import made_up, rearranged, renewed, with_witness


def changed(findings: Findings, name: str) -> Findings:
    """A set of the kind `name`, with equal losses: then the order of equals would show."""
    if name == "confident":
        for loss in findings.history.losses.values():
            loss[:] = torch.where(loss > 3, 9.0, 0.0)
        findings.opinion.given[:] = torch.where(findings.opinion.given < 0.5, 0.0, 1.0)
    if name == "rounded":
        for loss in findings.history.losses.values():
            loss.round_(decimals=1)
    return renewed(findings)


SETS = [
    (1000, (3,), "rounded"),
    (990, (3,), "rounded"),
    (950, (3,), "rounded"),
    (950, (3,), "confident"),
    (950, (3, 7), "confident"),
    (940, (3, 7, 1), "rounded"),
    (900, (3, 7, 1, 5), "confident"),
]


@pytest.mark.parametrize(("poisoned_from", "targets", "name"), SETS)
def test_the_verdict_is_one_of_the_set_and_not_of_its_order(
    poisoned_from: int, targets: tuple[int, ...], name: str
) -> None:
    findings = changed(made_up(poisoned_from, targets), name)
    expected = judge(findings)
    ranking = [findings.name(index) for index in findings.order.tolist()]
    for seed in range(50):
        again = rearranged(findings, seed)
        verdict = judge(again)
        assert verdict.statistics == pytest.approx(expected.statistics)
        assert replace(verdict, statistics={}) == replace(expected, statistics={})
        assert [again.name(index) for index in again.order.tolist()] == ranking


def test_what_a_witness_says_depends_on_no_order_either() -> None:
    findings = made_up(960)
    vetoed = torch.arange(1000) >= 955
    judged = []
    for seed in range(20):
        again = findings if seed == 0 else rearranged(findings, seed)
        names = [findings.name(index) for index in torch.nonzero(vetoed).flatten().tolist()]
        there = torch.tensor([again.name(index) in names for index in range(1000)])
        target = again.training.classes.index("class 3")
        heard = with_witness(again, there, {target: 0.8})
        verdict = judge(heard, accusations_of(heard))
        judged.append((verdict.name, verdict.suspected_targets, verdict.estimated_range))
    assert judged[0][:2] == ("poisoned", ("class 3",))
    assert set(judged) == {judged[0]}


@pytest.mark.parametrize("name", ["confident", "rounded"])
@pytest.mark.parametrize("targets", [(3,), (3, 7), (7, 1, 5)])
def test_all_targets_are_named(name: str, targets: tuple[int, ...]) -> None:
    findings = changed(made_up(940, targets), name)
    verdict = judge(findings)
    assert verdict.name == "poisoned"
    assert set(verdict.suspected_targets) == {f"class {target}" for target in targets}
    assert verdict.suspected_target == verdict.suspected_targets[0]
    low, high = verdict.estimated_range
    assert 40 <= verdict.estimated_poisoned <= 80 and low <= 60 <= high
    worst = findings.order[:60]
    assert int((worst >= 940).sum()) >= 58

"""The page tells what witnesses say, of classes and of samples, and by what the share was found."""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from report.charts import share_chart
from report.content import PageContent
from report.page import render
from report.pictures import listed
from report.ranking import Ranking
from report.witnessed import as_result, heard
from run.standing import Standing
from tests.report.made_up import with_witness
from tests.report.report_example import COUNT, make_content, make_findings, make_rows

EVIL = "<b>cat</b>"


def poor(content: PageContent) -> PageContent:
    """Return the content without rows, since charts take the most time."""
    return replace(content, rows=[], result={}, standing=Standing(0, 6))


def test_a_witness_is_told_with_its_classes_and_samples() -> None:
    vetoed = torch.arange(COUNT) < 6
    findings = with_witness(make_findings(truth=False), vetoed, {1: 0.75})
    (said,) = heard(findings)
    # Of the samples 0 to 5 in 4 classes, 1 and 5 have the label 1.
    assert (said.name, said.vetoed, said.accused) == ("unverified_group", 6, [("class 1", 0.75, 2)])
    rows = listed(Ranking(findings))
    assert [row.witnesses for row in rows[5:7]] == [[(20.0, True)], [(0.0, False)]]


def test_the_result_tells_what_each_vetoes_and_the_truth_of_it_where_known() -> None:
    vetoed, poisoned = (
        torch.arange(COUNT) < 6,
        (torch.arange(COUNT) > 3) & (torch.arange(COUNT) < 9),
    )
    findings = with_witness(make_findings(truth=False), vetoed, {1: 0.75})
    said = {"vetoed": 6, "accused": {"class 1": {"strength": 0.75, "vetoed": 2}}}
    assert as_result(findings) == {"witnesses": {"unverified_group": said}}
    known = as_result(replace(findings, poisoned=poisoned))["witnesses"]["unverified_group"]
    assert known == said | {"vetoed_poisoned": 2, "missed_poisoned": 3}
    assert as_result(make_findings()) == {}


def test_the_page_has_a_table_and_a_column_for_each_witness() -> None:
    findings = with_witness(make_findings(truth=False), torch.arange(COUNT) < 6, {1: 0.75})
    training = replace(findings.training, classes=("a", EVIL, "c", "d"))
    findings = replace(findings, training=training)
    html = render(poor(make_content(truth=False, findings=findings)))
    assert EVIL not in html and html.count('href="#witnesses"') == 1
    table = html.partition('id="witnesses"')[2].partition("</section>")[0]
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", table)
    assert cells[5:] == [
        "unverified_group",
        "6",
        "<bdi>&lt;b&gt;cat&lt;/b&gt;</bdi>",
        "75 %",
        "2",
    ]
    assert html.count(">unverified_group</th>") == 2
    assert html.count('<td class="number">20, vetoed</td>') == 6
    assert html.count('<td class="number">0</td>') >= COUNT - 6


def test_a_witness_that_accuses_nobody_is_told_too() -> None:
    findings = with_witness(make_findings(), torch.zeros(COUNT, dtype=torch.bool), {})
    html = render(poor(make_content(findings=findings)))
    table = html.partition('id="witnesses"')[2].partition("</section>")[0]
    assert "<td>none</td>" in table and ", vetoed" not in html


def test_without_witnesses_the_page_does_not_speak_of_them() -> None:
    html = render(poor(make_content()))
    assert "itness" not in html


def test_the_share_is_drawn_where_the_log_has_it() -> None:
    assert share_chart(make_rows()) is None
    figures = {"kept_share": 0.5, "reduction_gap": 2.25, "agreed_share": 0.9, "objected_share": 0.1}
    rows = [row | (figures if row["epoch"] > 2 else {}) for row in make_rows()]
    rows[-1]["kept_share"] = 0.75
    chart = share_chart(rows)
    assert chart is not None and "from 2.25 nats" in chart.title
    assert "kept 50.0\u00a0% in epoch 3, 75.0\u00a0% in epoch 5" in chart.summary
    assert "objected to 10.0\u00a0% in epoch 3" in chart.summary

"""The end of a run: what the model says of its data, the verdict, and what is left for people."""

from __future__ import annotations

from typing import Any

from report.accusations import accusations_of, doubts_of, kinds_seen
from report.card import write_card
from report.examine import examine
from report.findings import Findings
from report.judge import judge
from report.verdict import Verdict
from report.witnessed import as_result
from report.write import write_report
from run.describe import describe_model, result_of
from run.measure import Score, ranking_quality
from run.product import save_model
from run.session import Session
from run.standing import refuse_if_ended_since
from utils.console import say
from utils.errors import InputError


def examine_data(session: Session, score: Score, finished: bool, write: bool) -> Verdict:
    """Say what the model thinks of the data it was trained on; leave report, result and model."""
    findings = examine(session)
    accusations, seen = accusations_of(findings), kinds_seen(findings)
    verdict = judge(findings, accusations, seen, doubts_of(findings))
    for line in verdict.lines():
        say(line)
    result = (
        result_of(session, score)
        | ranking_quality(findings.score, findings.poisoned)
        | as_result(findings)
        | verdict.as_result()
    )
    if session.engine.world.is_first:
        if write:
            leave_report(session, findings, verdict, result, finished)
        if finished:
            description = describe_model(session, score, verdict.as_result())
            save_model(session.folder.path, session.model, description)
            write_card(session.folder.path, result, description, verdict)
            session.folder.write_json("result.json", result)  # last: where it is, all else is
    return verdict


def leave_report(
    session: Session, findings: Findings, verdict: Verdict, result: dict[str, Any], finished: bool
) -> None:
    """Write the report; of a run that has just ended, what cannot be written is but said."""
    if not finished:
        refuse_if_ended_since(session.setup.start, session.folder)
    try:
        for line in write_report(session, findings, verdict, result):
            say(line)
    except InputError as error:
        if not finished or session.folder.result.exists():
            raise
        say(str(error))

"""Writing all that a run leaves for people, from the run as it is now."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from config.no_effect import is_ignored
from data.formats import FORMATS, Listing, write_formats
from data.formats.due import due
from report.content import PageContent
from report.events import write_events
from report.findings import SEEDS_ARE, Findings
from report.moved import what_moved
from report.page import write_page
from report.purified import write_purified
from report.sheets import write_sheets
from report.suspects import write_suspects
from report.verdict import EPOCH, VERDICT_FILE, Verdict
from run.describe import manifest_of
from run.folder import RunFolder
from run.session import Session
from run.standing import standing_of
from utils.errors import InputError, TrainingError, why_refused
from utils.files import write_text

SHOWN = 3  # doubtful samples named in a line; the page lists all
PAGE_FILE = "report.html"


def write_report(
    session: Session, findings: Findings, verdict: Verdict, result: dict[str, Any]
) -> list[str]:
    """Write `report/` in the run's folder; return lines to say. One process calls this.

    Raises:
        InputError: it cannot be written.
    """
    try:
        return _write(session, findings, verdict, result)
    except TrainingError as error:  # names the file
        raise InputError(f"report: {error}") from error
    except OSError as error:
        why = why_refused(error)
        raise InputError(f"report: {session.folder.report} cannot be written: {why}") from error


def _write(
    session: Session, findings: Findings, verdict: Verdict, result: dict[str, Any]
) -> list[str]:
    folder = session.folder.report
    before = folder if session.earlier is None else RunFolder(session.earlier).report
    has_floor = not is_ignored(session.config, "global.class_floor")
    lines = [*tell_lost(findings, has_floor), *doubts(findings)]
    lines += what_moved(before, findings, verdict)
    folder.mkdir(parents=True, exist_ok=True)
    lines += write_suspects(findings, folder)
    write_purified(findings, session.folder.purified)
    write_sheets(findings, folder)
    write_page(folder / PAGE_FILE, page_content(session, findings, verdict, result))
    write_events(session.folder.events, session.progress.rows)
    said = asdict(verdict) | {EPOCH: session.progress.epoch}
    write_text(folder / VERDICT_FILE, json.dumps(said, indent=2) + "\n")
    formats = [FORMATS.get(name)() for name in due(session.config.report_formats, folder)]
    lines += write_formats(formats, as_listing(findings, verdict), folder)
    return [*lines, f"report: {folder / PAGE_FILE}"]


def page_content(
    session: Session, findings: Findings, verdict: Verdict, result: dict[str, Any]
) -> PageContent:
    """Return what the page shows."""
    return PageContent(
        findings=findings,
        verdict=verdict,
        result=result,
        rows=session.progress.rows,
        config=session.config.as_yaml(),
        manifest=manifest_of(session),
        title=session.folder.path.name,
        standing=standing_of(session),
        review=session.material.review,
    )


def as_listing(findings: Findings, verdict: Verdict) -> Listing:
    """Return the findings as the formats of other tools take them."""
    opinion = findings.opinion
    return Listing(
        training=findings.training,
        order=findings.order,
        score=findings.score,
        predicted=opinion.predicted,
        probability=opinion.probability,
        given=opinion.given,
        kept=findings.kept,
        probabilities=opinion.probabilities,
        verdict=verdict.name,
        targets=verdict.targets,
    )


def tell_lost(findings: Findings, has_floor: bool) -> list[str]:
    """Return a line on classes that the run has lost; none where the model knows all.

    Args:
        findings: of the run.
        has_floor: whether its method reads `global.class_floor`.
    """
    lost = [repr(findings.training.classes[label]) for label in findings.lost_classes]
    if not lost:
        return []
    floor = "a higher global.class_floor keeps more of its labels, " if has_floor else ""
    return [
        f"the run has lost {', '.join(lost)}: the model gives that label to no more than half of "
        f"the {SEEDS_ARE[findings.origin]} with it; {floor}more steps or a wider "
        f"network make it stronger"
    ]


def doubts(findings: Findings) -> list[str]:
    """Return a line on verified samples that the model does not believe; none without any."""
    found = [repr(findings.name(index)) for index in findings.doubtful_seeds]
    if not found:
        return []
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    kind = SEEDS_ARE[findings.origin]
    return [
        f"{len(found)} {kind} look poisoned or mislabelled to the model; look again at "
        f"{', '.join(found[:SHOWN])}{more}"
    ]

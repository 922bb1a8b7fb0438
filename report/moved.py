"""How verdict and ranking differ from those of the report before, once a person has had a say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report.findings import Findings
from report.sheets import WORST
from report.suspects import FILE_NAME, read_ranks
from report.verdict import Verdict, read_report


def what_moved(before: Path, findings: Findings, verdict: Verdict) -> list[str]:
    """Return lines on what is different from the report in the folder `before`.

    Nothing where there was none, or where it was on other samples.
    """
    earlier, ranks = read_verdict(before), read_ranks(before / FILE_NAME)
    worst = [findings.name(index) for index in findings.order[:WORST].tolist()]
    if earlier is None or any(name not in ranks for name in worst):
        return []
    lines = [f"verdict: {verdict.name}, {earlier['name']} in the report before"]
    if verdict.suspected_target != earlier["suspected_target"]:
        was, now = earlier["suspected_target"], verdict.suspected_target
        lines.append(f"suspected target: {now or 'none'}, {was or 'none'} before")
    if verdict.estimated_poisoned != earlier["estimated_poisoned"]:
        was = earlier["estimated_poisoned"]
        lines.append(f"poisoned, about: {verdict.estimated_poisoned}, {was} before")
    stayed = sum(ranks[name] <= len(worst) for name in worst)
    line = f"ranking: {stayed} of the {len(worst)} worst were among the worst before"
    rises = {name: ranks[name] - rank for rank, name in enumerate(worst, 1)}
    risen = max(rises, key=lambda name: rises[name])
    if rises[risen] > 0:
        rank = worst.index(risen) + 1
        line += f"; {risen} has risen furthest, from rank {ranks[risen]} to {rank}"
    return [*lines, line]


def read_verdict(folder: Path) -> dict[str, Any] | None:
    """Return the verdict of an earlier report; None where there is no readable one."""
    found = read_report(folder)
    fields = {"name", "suspected_target", "estimated_poisoned"}
    return found if fields <= found.keys() else None

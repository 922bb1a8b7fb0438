"""`report.html`: all that a run has found, as one file that needs no network.

Names of classes and files come from strangers: the template escapes them, and the page forbids
itself requests and all scripts but its own, which it knows by its digest. Where nobody knows the
truth, nothing on the page needs it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from report import charts
from report.content import PageContent
from report.drawing import Chart, find_stages, percent
from report.facts import (
    as_yaml,
    facts,
    judge_ranking,
    public_manifest,
    scores,
    tell_stages,
)
from report.labels import label_matrix, largest_pairs, matrix_rows
from report.pictures import Tile, earlier, listed, tiles
from report.ranking import Ranking
from report.sheets import MOST_CLASSES, WORST, WORST_OF_CLASS, percent_text
from report.verdict import UNSEEN_KINDS
from report.witnessed import heard
from utils.files import write_text

TEMPLATE, SCRIPT = "page.html", "page.js"
MOST_COLUMNS = 20  # classes up to which the matrix is shown whole
# Signs that turn the direction of writing, and so make a name look like another one.
TURNED = {
    code: f"\\u{code:04x}"
    for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def draw_charts(content: PageContent) -> dict[str, list[Chart]]:
    """Return the charts of each section; a section without one is left out."""
    findings, rows, truth = content.findings, content.rows, content.knows_truth
    splits = findings.history.polluted is not None
    sections: dict[str, list[Chart | None]] = {
        "training": [charts.score_chart(rows, truth), charts.loss_chart(rows)],
        "pools": [
            charts.pool_chart(rows, len(findings), truth) if splits else None,
            charts.quality_chart(rows) if splits and truth else None,
            charts.share_chart(rows) if splits else None,
        ],
        "losses": [*charts.histograms(findings)],
    }
    drawn = {name: [chart for chart in found if chart] for name, found in sections.items()}
    return {name: found for name, found in drawn.items() if found}


def significant(value: float | None) -> str:
    """Return a number with three digits that count; a dash where there is none."""
    return "\u2013" if value is None or math.isnan(value) else f"{value:.3g}"


def exact_percent(share: float | None) -> str:
    """Return a share of 1 as a percentage with two decimals."""
    return "not measured" if share is None else percent(share, decimals=2)


def drawn(chart: Chart) -> Markup:
    """Return the chart's element as it is; matplotlib has escaped what it holds."""
    return Markup(chart.svg)  # noqa: S704


def read_script() -> tuple[Markup, str]:
    """Return the page's script, and its digest as a policy names it."""
    text = (Path(__file__).parent / SCRIPT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"  # noqa: S704


def review_id(content: PageContent, shown: Sequence[Tile]) -> str:
    """Return by what the browser keeps a review apart from those of other pages."""
    tiles_of_page = (f"{tile.cell} {tile.verdict}" for tile in shown)
    whole = "\n".join([content.title, *tiles_of_page])
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def environment() -> Environment:
    """Return what renders the template: it escapes everything, and a misspelt name is an error."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": percent_text,
        "exact_percent": exact_percent,
        "significant": significant,
        "drawn": drawn,
    }
    return found


def pictures(content: PageContent, ranking: Ranking) -> dict[str, Any]:
    """Return what the page shows as pictures, and what its review needs."""
    findings, verdicts = content.findings, content.review.verdicts()
    worst = tiles(findings, ranking.worst(WORST), verdicts)
    by_class = [
        (name, tiles(findings, suspects, verdicts))
        for name, suspects in ranking.worst_by_class(WORST_OF_CLASS, MOST_CLASSES)
    ]
    shown = [*worst, *(tile for _, found in by_class for tile in found)]
    return {
        "worst": worst,
        "by_class": by_class,
        "worst_of_class": WORST_OF_CLASS,
        "earlier": earlier(findings, verdicts, shown),
        "review_id": review_id(content, shown),
    }


def labels(content: PageContent) -> dict[str, Any]:
    """Return what the page says of given labels and the model's own."""
    training = content.findings.training
    matrix = label_matrix(content.findings)
    is_small = training.num_classes <= MOST_COLUMNS
    return {
        "classes": training.classes,
        "matrix": matrix_rows(matrix, training.classes) if is_small else None,
        "pairs": largest_pairs(matrix, training.classes),
    }


def render(content: PageContent) -> str:
    """Return the page as HTML."""
    findings, verdict, ranking = content.findings, content.verdict, Ranking(content.findings)
    script, script_digest = read_script()
    template = environment().get_template(TEMPLATE)
    html = template.render(
        content=content,
        verdict=verdict,
        targets=verdict.targets,
        unseen=[UNSEEN_KINDS[kind] for kind in verdict.unseen_kinds],
        findings=findings,
        truth=content.knows_truth,
        facts=facts(content),
        lost=[findings.training.classes[label] for label in findings.lost_classes],
        doubtful=[findings.name(index) for index in findings.doubtful_seeds],
        scores=scores(content),
        ranking_quality=judge_ranking(findings),
        charts=draw_charts(content),
        stages=tell_stages(find_stages(content.rows)),
        listed=listed(ranking),
        heard=heard(findings),
        config=as_yaml(content.config),
        manifest=as_yaml(public_manifest(content)),
        script=script,
        script_digest=script_digest,
        **pictures(content, ranking),
        **labels(content),
    )
    # A file's name may hold bytes that are no text; Python keeps them as half characters.
    return html.translate(TURNED).encode("utf-8", "backslashreplace").decode()


def write_page(path: Path, content: PageContent) -> None:
    """Write the report to `path`, whole or not at all.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    write_text(path, render(content))

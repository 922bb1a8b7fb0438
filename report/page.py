"""`report.html`: all that a run has found, as one file that needs no network.

Names of classes and files come from strangers: the template escapes them, and the page forbids
itself scripts and requests. Where nobody knows the truth, nothing on the page needs it.
"""

from __future__ import annotations

import math
from pathlib import Path

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
from report.pictures import listed, tiles
from report.ranking import Ranking
from report.sheets import MOST_CLASSES, WORST, WORST_OF_CLASS, percent_text
from report.verdict import UNSEEN_KINDS
from utils.files import write_text

TEMPLATE = "page.html"
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


def render(content: PageContent) -> str:
    """Return the page as HTML."""
    findings, ranking = content.findings, Ranking(content.findings)
    matrix = label_matrix(findings)
    classes = findings.training.classes
    is_small = len(classes) <= MOST_COLUMNS
    by_class = ranking.worst_by_class(WORST_OF_CLASS, MOST_CLASSES)
    html = (
        environment()
        .get_template(TEMPLATE)
        .render(
            content=content,
            verdict=content.verdict,
            targets=content.verdict.targets,
            unseen=[UNSEEN_KINDS[kind] for kind in content.verdict.unseen_kinds],
            findings=findings,
            truth=content.knows_truth,
            facts=facts(content),
            lost=[classes[label] for label in findings.lost_classes],
            doubtful=[findings.name(index) for index in findings.doubtful_seeds],
            scores=scores(content),
            ranking_quality=judge_ranking(findings),
            charts=draw_charts(content),
            stages=tell_stages(find_stages(content.rows)),
            worst=tiles(findings, ranking.worst(WORST)),
            by_class=[(name, tiles(findings, suspects)) for name, suspects in by_class],
            worst_of_class=WORST_OF_CLASS,
            classes=classes,
            matrix=matrix_rows(matrix, classes) if is_small else None,
            pairs=largest_pairs(matrix, classes),
            listed=listed(ranking),
            config=as_yaml(content.config),
            manifest=as_yaml(public_manifest(content)),
        )
    )
    # A file's name may hold bytes that are no text; Python keeps them as half characters.
    return html.translate(TURNED).encode("utf-8", "backslashreplace").decode()


def write_page(path: Path, content: PageContent) -> None:
    """Write the report to `path`, whole or not at all.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    write_text(path, render(content))

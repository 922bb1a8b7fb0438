"""`report.html`: all that a run has found, as one file that needs no network.

Names of classes and files come from strangers: the template escapes them, and the page forbids
itself scripts and requests. Where nobody knows the truth, nothing on the page needs it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from report import charts
from report.charts import Chart, Row, Stage
from report.findings import Findings
from report.ranking import Ranking, Suspect
from report.sheets import MOST_CLASSES, WORST, WORST_OF_CLASS, percent_text, thumbnail
from report.verdict import Verdict
from run.measure import ranking_quality
from utils.files import write_text

TEMPLATE = "page.html"
LISTED = 50  # suspects in the table
MOST_COLUMNS = 20  # classes up to which the matrix is shown whole
PAIRS = 30  # of labels, where it is not
LONGEST_LIST = 200  # entries of a list in the manifest
NATIVE = 64  # pixels of a side up to which an image is embedded as it is
# Signs that turn the direction of writing, and so make a name look like another one.
TURNED = {
    code: f"\\u{code:04x}"
    for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
# What the manifest says of an attack. Without one it says 0 and none, which nobody knows.
TRUTH_KEYS = ("attack", "poisoned_samples", "poisoned_indices")


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
        finished: whether the run reached its last epoch.
    """

    findings: Findings
    verdict: Verdict
    result: Mapping[str, Any]
    rows: list[dict[str, Any]]
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    title: str
    finished: bool

    @property
    def knows_truth(self) -> bool:
        """Whether it is known which samples are poisoned."""
        return self.findings.poisoned is not None


@dataclass(frozen=True)
class Tile:
    """A sample as a picture: `uri` holds the whole image."""

    suspect: Suspect
    uri: str


@dataclass(frozen=True)
class Measured:
    """ACC and ASR after an epoch; None where not measured."""

    when: str
    epoch: int | None
    acc: float | None
    asr: float | None


@dataclass(frozen=True)
class Listed:
    """A suspect with all that the table says of it.

    Attributes:
        suspect: who it is.
        losses: at the last split of each stage.
        reduction: mean loss reduction of the last meta-splits; None without one.
        polluted: epochs in the polluted pool; None without a split.
    """

    suspect: Suspect
    losses: list[float]
    reduction: float | None
    polluted: int | None


@dataclass(frozen=True)
class Pair:
    """Samples of one given label for which the model has another label of its own."""

    given: str
    own: str
    count: int
    share: float  # of the samples with that given label


def image_uri(image: Tensor) -> str:
    """Return `image` (H, W, 3) uint8 as a data URI: exact if small, else reduced."""
    file = io.BytesIO()
    if max(image.shape[:2]) <= NATIVE:
        kind = "png"
        Image.fromarray(image.cpu().contiguous().numpy()).save(file, "PNG", optimize=True)
    else:
        kind = "jpeg"
        thumbnail(image).save(file, "JPEG", quality=85, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def tiles(findings: Findings, suspects: list[Suspect]) -> list[Tile]:
    """Return the suspects as pictures."""
    images = findings.training.images
    return [Tile(suspect, image_uri(images[suspect.index])) for suspect in suspects]


def scores(content: PageContent) -> list[Measured]:
    """Return ACC and ASR at the end and, if another one was better, in the best epoch."""
    rows = [row for row in content.rows if charts.number(row, "acc") is not None]
    if content.result.get("acc") is not None:
        last = content.rows[-1] if content.rows else {}
        row = {**last, **{key: content.result.get(key) for key in ("acc", "asr")}}
        found = [measured("last epoch" if content.finished else "last measured", row)]
    else:
        found = [measured("last measured", rows[-1])] if rows else []
    best = max(rows, key=lambda row: charts.number(row, "acc") or 0.0, default=None)
    if best is not None and best["epoch"] != rows[-1]["epoch"]:
        found.append(measured("best ACC on these images", best))
    return found


def measured(when: str, row: Row) -> Measured:
    """Return the scores in a row of the log."""
    epoch = int(row["epoch"]) if "epoch" in row else None
    return Measured(when, epoch, charts.number(row, "acc"), charts.number(row, "asr"))


def facts(content: PageContent) -> dict[str, str]:
    """Return what the run was, by name."""
    findings, result = content.findings, content.result
    planned, done = content.config.get("num_epochs"), len(content.rows)
    found = {
        "training samples": f"{len(findings):,} of {findings.training.num_classes} classes",
        "verified samples": f"{len(findings.seeds):,}",
        "may be kept": f"{int(findings.kept.sum()):,} of {len(findings):,} (purified.txt)",
        "defence": result.get("defense") or content.config.get("defense"),
        "data set": result.get("dataset") or content.config.get("dataset"),
        "epochs": str(done) if planned in (None, done) else f"{done} of {planned}",
        "time": duration(content),
        "device": result.get("device") or content.manifest.get("device"),
    }
    return {name: str(value) for name, value in found.items() if value}


def duration(content: PageContent) -> str:
    """Return the time that the epochs took."""
    seconds = sum(charts.number(row, "seconds") or 0.0 for row in content.rows)
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def judge_ranking(findings: Findings) -> dict[str, str]:
    """Return how well the score ranks, by the truth; nothing where there is none to find."""
    truth = findings.poisoned
    count = 0 if truth is None else int(truth.sum())
    if truth is None or not 0 < count < len(truth):
        return {}
    quality = ranking_quality(findings.score, truth)
    hits = round(quality["suspects_precision"] * count)
    lost = int((findings.kept & truth).sum())
    share = charts.percent(quality["suspects_precision"])
    return {
        "poisoned": f"{count:,} of {len(truth):,} samples",
        f"poisoned among the first {count:,} suspects": f"{hits:,} ({share})",
        "poisoned among the samples that may be kept": f"{lost:,}",
        "AUROC of the score": f"{quality['suspects_auroc']:.4f}",
    }


def listed(ranking: Ranking) -> list[Listed]:
    """Return the first suspects for the table."""
    findings, history = ranking.findings, ranking.findings.history
    reduction = findings.reduction
    return [
        Listed(
            suspect=suspect,
            losses=[float(losses[suspect.index]) for losses in history.losses.values()],
            reduction=None if reduction is None else float(reduction[suspect.index]),
            polluted=None if history.polluted is None else int(history.polluted[suspect.index]),
        )
        for suspect in ranking.worst(LISTED)
    ]


def label_matrix(findings: Findings) -> Tensor:
    """Return (C, C) int64: samples by given label (row) and the model's own label (column)."""
    classes = findings.training.num_classes
    cells = findings.training.labels.cpu() * classes + findings.opinion.predicted
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def largest_pairs(matrix: Tensor, classes: tuple[str, ...]) -> list[Pair]:
    """Return the largest cells beside the diagonal, the largest first."""
    others = matrix.clone().fill_diagonal_(0).flatten()
    found = []
    for cell in others.argsort(descending=True, stable=True)[:PAIRS].tolist():
        given, own = divmod(cell, len(classes))
        count = int(others[cell])
        if count:
            share = count / int(matrix[given].sum())
            found.append(Pair(classes[given], classes[own], count, share))
    return found


def matrix_rows(matrix: Tensor, classes: tuple[str, ...]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the matrix for the template: each row's name, and count and share of its cells."""
    rows = []
    for label, counts in enumerate(matrix.tolist()):
        total = max(sum(counts), 1)
        cells = [
            {"count": count, "share": count / total, "is_own": label == column}
            for column, count in enumerate(counts)
        ]
        rows.append((classes[label], cells))
    return rows


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


def shorten(value: Any) -> Any:
    """Return `value` with the ends of long lists left out."""
    if isinstance(value, Mapping):
        return {key: shorten(part) for key, part in value.items()}
    if isinstance(value, list | tuple) and len(value) > LONGEST_LIST:
        return [*value[:LONGEST_LIST], f"and {len(value) - LONGEST_LIST} more"]
    return list(value) if isinstance(value, tuple) else value


def as_yaml(content: Mapping[str, Any]) -> str:
    """Return plain values as YAML, short lists on one line."""
    plain = shorten(content)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None)


def public_manifest(content: PageContent) -> dict[str, Any]:
    """Return the manifest without what needs the truth, where nobody knows it."""
    hidden = () if content.knows_truth else TRUTH_KEYS
    return {key: value for key, value in content.manifest.items() if key not in hidden}


def significant(value: float | None) -> str:
    """Return a number with three digits that count; a dash where there is none."""
    return "\u2013" if value is None or math.isnan(value) else f"{value:.3g}"


def exact_percent(share: float | None) -> str:
    """Return a share of 1 as a percentage with two decimals."""
    return "not measured" if share is None else charts.percent(share, decimals=2)


def tell_stages(stages: list[Stage]) -> str:
    """Return the stages and their epochs as a sentence."""
    return "; ".join(
        f"{stage.name}: epoch {stage.first}"
        + (f" to {stage.last}" if stage.last > stage.first else "")
        for stage in stages
    )


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
            findings=findings,
            truth=content.knows_truth,
            facts=facts(content),
            lost=[classes[label] for label in findings.lost_classes],
            doubtful=[findings.name(index) for index in findings.doubtful_seeds],
            scores=scores(content),
            ranking_quality=judge_ranking(findings),
            charts=draw_charts(content),
            stages=tell_stages(charts.find_stages(content.rows)),
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

"""The page: one inert file that says what was found, and nothing that nobody can know."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from defense.history import History
from report.charts import purity
from report.content import PageContent
from report.drawing import VARIABLES, find_stages, number
from report.facts import LONGEST_LIST, as_yaml
from report.labels import label_matrix, largest_pairs
from report.page import render, write_page
from report.verdict import UNSEEN_KINDS, Verdict
from run.forecast import Span
from run.standing import Standing
from tests.report.report_example import make_content, make_findings, make_rows

TRUTH_WORDS = ("ASR", "attack", "AUROC", "TPR", "FPR", "purity", "the truth", "poisoned_")
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [
            attributes[attribute] or "" for _, attributes in self.tags if attribute in attributes
        ]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@lru_cache
def example(truth: bool = True) -> str:
    """Return the page of the example, drawn once for all tests that only read it."""
    return render(make_content(truth))


def without_charts(content: PageContent) -> PageContent:
    """Return the content as it is before the first epoch; charts take the most time."""
    findings = replace(content.findings, history=History())
    return replace(content, findings=findings, rows=[], result={}, standing=Standing(0, 6))


def with_names(content: PageContent, classes: tuple[str, ...], file: str) -> PageContent:
    files = tuple(file.format(index) for index in range(40))
    training = replace(content.findings.training, classes=classes, files=files)
    return replace(content, findings=replace(content.findings, training=training))


def test_page_asks_for_nothing_and_runs_only_its_own_script() -> None:
    html = example()
    page = Page(html)
    assert {name for name, _ in page.tags}.isdisjoint({"link", "iframe", "object", "base", "form"})
    assert page.count("script") == 1 and html.count("<script") == 1
    text = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in html
    # What would send something or run a text is not even there.
    words = ("fetch", "XMLHttp", "WebSocket", "sendBeacon", "eval", "innerHTML", "import", "http")
    assert [word for word in words if word in text] == []
    assert all(source.startswith("data:image/") for source in page.values("src"))
    assert all(link.startswith("#") for link in page.values("href") + page.values("xlink:href"))
    assert set(re.findall(r"https?://[^\"' ]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_ids_are_unique_and_links_lead_somewhere() -> None:
    html = example()
    page = Page(html)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href") + page.values("xlink:href")
    targets = [link[1:] for link in links] + re.findall(r"url\(#([^)]*)\)", html)
    targets += page.values("aria-labelledby")
    assert len(targets) > 20
    assert set(targets) <= set(ids)


def test_strange_names_are_inert() -> None:
    breakout = '"><img src=x onerror=alert(1)> {0}.png'
    content = with_names(without_charts(make_content()), (EVIL, "猫", "a & b", "'"), breakout)
    content = replace(
        content,
        verdict=Verdict("poisoned", EVIL, 4, {EVIL: 1.0}, (f"Class {EVIL} is odd.",)),
        config={"dataset_dir": EVIL},
        manifest={"classes": [EVIL]},
        title=EVIL,
    )
    page = Page(render(content))
    assert page.count("script") == 1
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert all(source.startswith("data:") for source in page.values("src"))
    assert page.text.count(EVIL) > 10
    assert "猫" in page.text
    assert '"><img src=x onerror=alert(1)> 0.png' in page.text


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    content = with_names(
        without_charts(make_content()), ("a", "b", "c", "d"), "\udce9{0}\u202egnp.exe"
    )
    write_page(tmp_path / "report.html", content)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert r"\udce90\u202egnp.exe" in html
    assert "\u202e" not in html


def test_without_truth_nothing_needs_it() -> None:
    page = Page(example(truth=False))
    everything = page.text + " ".join(page.values("aria-label"))
    assert [word for word in TRUTH_WORDS if word in everything] == []
    # Columns that somebody left in the log are not read, either.
    unknown = make_content(truth=False)
    assert render(replace(unknown, rows=make_rows(truth=True))) == example(truth=False)


def test_with_truth_it_is_told() -> None:
    page = Page(example())
    assert "25.00\u00a0%" in page.text  # ASR
    # The first 5 suspects are 0 to 4; of the poisoned samples 9 is missing.
    assert "poisoned among the first 5 suspects4 (80.0\u00a0%)" in page.text.replace("\n", "")
    # Kept are those with a score below 0.5, from 20 on: none is poisoned.
    assert "may be kept0AUROC" in page.text.replace("\n", "")
    # Of 5 poisoned and 35 clean samples, 9 is behind 5 clean ones.
    assert f"{1 - 5 / (5 * 35):.4f}" in page.text
    # Framed in both contact sheets.
    marked = [a for tag, a in page.tags if tag == "li" and a.get("class") == "marked"]
    assert len(marked) == 2 * 5


def test_scores_are_of_the_last_and_the_best_epoch() -> None:
    page = Page(example(truth=False))
    compact = page.text.replace("\n", "")
    assert "last epoch575.00\u00a0%" in compact  # result.json is right, whatever the log says
    assert "best ACC on these images179.00\u00a0%" in compact


def test_charts_take_their_colours_from_the_page() -> None:
    html = example()
    assert Page(html).count("svg") == 2 + 2 + 3
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert [colour for colour in VARIABLES if colour in drawings] == []
    assert re.findall(r"#[0-9a-f]{6}\b", drawings) == []
    used = set(re.findall(r"var\((--[a-z]+)\)", drawings))
    assert used == {"--shade", "--blue", "--orange", "--green", "--pale"}
    assert all(html.count(f"{name}:") == 2 for name in used)  # light and dark
    assert "<metadata" not in drawings


def test_charts_are_told_in_words() -> None:
    labels = Page(example()).values("aria-label")
    told = "ACC 79.0\u00a0% in epoch 1, 75.0\u00a0% in epoch 5; ASR 25.0\u00a0% in epoch 1"
    assert any(told in label for label in labels)
    assert any("Of 40 samples: clean pool 10 in epoch 0, 15 in epoch 5" in text for text in labels)
    assert any("median of poisoned" in label for label in labels)


def test_stages_and_cells_of_the_log() -> None:
    stages = find_stages(make_rows())
    assert [(stage.first, stage.last) for stage in stages] == [(0, 1), (2, 3), (4, 5)]
    assert number({"acc": ""}, "acc") is None
    assert number({"acc": "0.5"}, "acc") == 0.5
    assert purity({"clean_pool": 20, "poisoned_in_clean_pool": 5}) == 0.75
    assert purity({"clean_pool": 0, "poisoned_in_clean_pool": 0}) is None


def without_splits(content: PageContent) -> PageContent:
    findings = make_findings(content.knows_truth, splits=False)
    rows = [{**row, "stage": "supervised", "clean_pool": 40} for row in content.rows]
    return replace(content, findings=findings, rows=rows)


def without_test_images(content: PageContent) -> PageContent:
    rows = [{**row, "acc": None, "asr": None} for row in content.rows]
    return replace(content, rows=rows, result={**content.result, "acc": None, "asr": None})


def after_one_epoch(content: PageContent) -> PageContent:
    return replace(content, rows=content.rows[:1], result={}, standing=Standing(1, 6))


def while_it_trains(content: PageContent) -> PageContent:
    standing = Standing(3, 6, running=True, left=Span(700.0, 1200.0))
    return replace(without_charts(content), standing=standing)


@pytest.mark.parametrize(
    ("change", "truth", "drawings", "words"),
    [
        (without_charts, True, 0, ["after 0 epochs", "0 of 6", "Not measured"]),
        (without_charts, False, 0, ["after 0 epochs", "0 of 6", "Not measured"]),
        (without_splits, False, 2, ["supervised: epoch 0 to 5", "75.00\u00a0%"]),
        (without_test_images, False, 5, ["Not measured"]),
        (after_one_epoch, True, 6, ["stopped after epoch 1 of 6.", "class-aware: epoch 0."]),
        (while_it_trains, False, 0, ["still training, epoch 3 of 6, 12 to 20 min left."]),
    ],
)
def test_poor_runs_have_a_page(
    change: Callable[[PageContent], PageContent], truth: bool, drawings: int, words: list[str]
) -> None:
    page = Page(render(change(make_content(truth))))
    assert [word for word in words if word not in page.text] == []
    assert page.count("svg") == drawings
    assert page.count("h1") == 1
    assert "nan" not in page.text.split()


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            Verdict("poisoned", "class 2", 1234),
            ["Poisoned, or", "class is class 2; about 1,234 of 40"],
        ),
        (Verdict("no_sign", None, 0), ["No sign of poison", "no proof"]),
        (
            Verdict("no_sign", None, 0, unseen_kinds=tuple(UNSEEN_KINDS)),
            ["Not seen by this", *UNSEEN_KINDS.values()],
        ),
        (
            Verdict("poisoned", "a", 40, {}, (), ("a", "b"), (30, 50)),
            ["classes are a, b; about 40 of 40 samples (30 to 50)"],
        ),
        (Verdict("cannot_tell", None, 0, {"a_b": float("nan")}), ["Cannot tell", "a b", "\u2013"]),
        (Verdict("poisoned", None, 3, {}, ("One reason.",)), ["About 3 of", "One reason."]),
    ],
)
def test_each_verdict_is_told(verdict: Verdict, words: list[str]) -> None:
    page = Page(render(without_charts(make_content(truth=False, verdict=verdict))))
    assert [word for word in words if word not in page.text] == []
    assert sum(f"verdict {verdict.name}" == name for name in page.values("class")) == 1


def test_label_matrix_counts_given_against_own() -> None:
    findings = make_findings()
    matrix = label_matrix(findings)
    # 40 samples in 4 classes; 0 to 4 are seen as the class after their own.
    assert matrix.tolist() == [[8, 2, 0, 0], [0, 9, 1, 0], [0, 0, 9, 1], [1, 0, 0, 9]]
    pairs = largest_pairs(matrix, findings.training.classes)
    assert (pairs[0].given, pairs[0].own, pairs[0].count, pairs[0].share) == (
        "class 0",
        "class 1",
        2,
        0.2,
    )
    assert len(pairs) == 4
    assert 'style="--weight: 0.50">8</td>' in example()


def test_many_classes_are_a_table_of_pairs() -> None:
    page = Page(render(without_charts(make_content(findings=make_findings(num_classes=30)))))
    assert "largest groups that the model labels in another way" in page.text
    assert "matrix" not in page.values("class")
    training = make_findings(num_classes=30)
    agreed = replace(
        training, opinion=replace(training.opinion, predicted=training.training.labels)
    )
    assert "every sample its given label" in render(without_charts(make_content(findings=agreed)))


def test_long_lists_are_shortened() -> None:
    text = as_yaml({"indices": list(range(LONGEST_LIST + 50)), "pair": (1, 2)})
    assert "and 50 more" in text
    assert str(LONGEST_LIST + 1) not in text
    assert "pair: [1, 2]" in text


def test_the_same_content_gives_the_same_bytes() -> None:
    assert render(make_content()) == example()

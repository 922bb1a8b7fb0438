"""The page in a real browser: it fits, complains of nothing, and a review in it is one by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.review import Review, read_review
from report.content import PageContent
from report.page import render, write_page
from tests.report.browser import CHROMIUM, Browser, arrived, browser
from tests.report.report_example import make_content
from tests.report.test_report_page import with_names
from utils.tables import table_text

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
CLASSES = ("a_class_name_without_any_blank_that_is_very_long", "b", "=c", "d")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Browser:  # type: ignore[misc]
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def opened(chromium: Browser, folder: Path, content: PageContent, width: int = 1200) -> Path:
    """Write the page, open it as a stranger would who never saw it, and return its file."""
    page = folder / "report.html"
    write_page(page, content)
    chromium.look(width)
    chromium.open(page)
    chromium.run("localStorage.clear()")
    chromium.console.clear()
    chromium.open(page)
    chromium.save_to(folder)
    return page


@pytest.mark.parametrize("width", [1200, 400, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_complains_of_nothing(
    chromium: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    content = with_names(make_content(), CLASSES, "train/" + "x" * 200 + "{0}")
    opened(chromium, tmp_path, content, width)
    chromium.look(width, scheme=scheme)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    heights = "[...document.querySelectorAll('svg')].map((e) => e.getBoundingClientRect().height)"
    found = chromium.run(heights)
    assert len(found) == 7 and min(found) > 100
    assert chromium.run("[...document.images].filter((i) => i.naturalWidth === 0).length") == 0
    dark = chromium.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert chromium.run("document.getElementById('review').getBoundingClientRect().height") > 30
    assert chromium.console == []


def test_print_leaves_out_what_only_a_screen_can_do(chromium: Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path, make_content())
    chromium.look(800, media="print")
    for selector in ("nav", "#review"):
        height = f"document.querySelector('{selector}').getBoundingClientRect().height"
        assert chromium.run(height) == 0
    chromium.look(800)


def test_the_page_forbids_itself_other_scripts_and_requests(
    chromium: Browser, tmp_path: Path
) -> None:
    injected = '<script>document.title = "run"</script><img src="http://localhost:9/x.png">'
    html = render(make_content()).replace("<main>", f"<main>{injected}")
    (tmp_path / "evil.html").write_text(html)
    chromium.console.clear()
    chromium.open(tmp_path / "evil.html")
    chromium.wait("document.images.length > 0")
    told = "\n".join(chromium.console)
    assert "script" in told and "localhost:9" in told and "Content Security Policy" in told
    assert chromium.run("document.title") != "run"


def left(chromium: Browser) -> str:
    return chromium.run("document.getElementById('review-left').textContent")


def test_a_review_of_twenty_by_keyboard_is_the_review_by_hand(
    chromium: Browser, tmp_path: Path
) -> None:
    content = with_names(make_content(truth=False), CLASSES, "train/=c/-{0}, \udce9 ü\u202e\"'.png")
    opened(chromium, tmp_path, content)
    findings = content.findings
    assert left(chromium) == f"{len(findings)} of {len(findings)} left"
    chromium.click("button[data-do=next]")
    keys = "kpksp" * 4
    for key in keys:
        chromium.press(key)
    assert left(chromium).endswith(f"{len(findings) - 20} of {len(findings)} left")
    chromium.click("button[data-do=save]")
    # The first 20 in the order of suspicion, skipped ones left out, as a person would write it.
    verdicts = [{"k": "clean", "p": "poisoned", "s": ""}[key] for key in keys]
    order = findings.order.tolist()
    rows = [
        {"file": findings.name(index), "verdict": verdict}
        for index, verdict in zip(order, verdicts, strict=False)
        if verdict
    ]
    by_hand = table_text(["file", "verdict"], rows, mark=True).encode("utf-8", "surrogateescape")
    assert arrived(tmp_path / "review.csv") == by_hand
    review = read_review(str(tmp_path / "review.csv"), findings.training)
    told = {index: word for index, word in zip(order, verdicts, strict=False) if word}
    assert review.verdicts() == dict(sorted(told.items()))
    assert chromium.console == []


def test_marks_are_moved_undone_and_kept_over_a_reload(chromium: Browser, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, make_content(truth=False))
    chromium.click("li[data-cell]")
    chromium.press("p")
    chromium.press("ArrowLeft")
    assert chromium.run("document.activeElement.dataset.mark") == "poisoned"
    chromium.press("k")
    chromium.press("x")  # no key of the review
    chromium.press("p")
    chromium.press("u")
    marks = "[...document.querySelectorAll('[data-mark]')].map((e) => e.dataset.mark)"
    assert set(chromium.run(marks)) == {"clean"}
    chromium.open(page)
    assert left(chromium) == "39 of 40 left"
    chromium.click("button[data-do=save]")
    assert arrived(tmp_path / "review.csv").decode("utf-8-sig") == "file,verdict\n0,clean\n"


def test_keys_do_nothing_outside_the_pictures(chromium: Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path, make_content(truth=False))
    chromium.click("h1")
    chromium.press("p")
    assert left(chromium) == "40 of 40 left"


def test_an_earlier_review_is_not_lost(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks from before are shown, and those of samples without a picture are saved, too."""
    monkeypatch.setattr("report.page.WORST", 3)
    monkeypatch.setattr("report.page.WORST_OF_CLASS", 1)
    review = Review(accepted=torch.tensor([1, 39]), rejected=torch.tensor([0]))
    opened(chromium, tmp_path, replace(make_content(truth=False), review=review))
    assert left(chromium) == "2 of 4 left"  # 0 to 2, and 3, the worst of its class
    chromium.click("button[data-do=next]")
    chromium.press("p")
    chromium.click("button[data-do=save]")
    saved = arrived(tmp_path / "review.csv").decode("utf-8-sig")
    assert saved == "file,verdict\n39,clean\n0,poisoned\n1,clean\n2,poisoned\n"

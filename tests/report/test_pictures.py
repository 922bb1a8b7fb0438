"""Suspects as pictures of the page, and what a review in it needs of them."""

from __future__ import annotations

import base64

from data.formats import CLEAN, POISONED
from report.pictures import cell_of, earlier, image_uri, tiles
from report.ranking import Ranking
from tests.conftest import colourful_images
from tests.report.report_example import make_findings
from utils.cells import undo


def test_pictures_are_exact_if_small_and_reduced_if_large() -> None:
    assert image_uri(colourful_images(1, 32)[0]).startswith("data:image/png;base64,")
    large = image_uri(colourful_images(1, 500)[0])
    assert large.startswith("data:image/jpeg;base64,")
    assert len(large) < 40_000


def test_a_view_of_images_is_shown_as_what_it_shows() -> None:
    # With other strides, as a set that was reordered has them.
    turned = colourful_images(1, 32)[0].permute(1, 0, 2)
    assert image_uri(turned) == image_uri(turned.contiguous())


def test_a_cell_holds_the_bytes_of_a_name() -> None:
    for name in ("a.png", "=b", 'c",.png', "\udce9 ü"):
        cell = base64.b64decode(cell_of(name)).decode("utf-8", "surrogateescape")
        text = cell[1:-1].replace('""', '"') if cell.startswith('"') else cell
        assert undo(text) == name


def test_verdicts_from_before_are_on_their_pictures_or_kept_beside_them() -> None:
    findings = make_findings()
    verdicts = {0: POISONED, 39: CLEAN}
    shown = tiles(findings, Ranking(findings).worst(3), verdicts)
    assert [tile.verdict for tile in shown] == [POISONED, None, None]
    assert earlier(findings, verdicts, shown) == [(cell_of("39"), CLEAN)]

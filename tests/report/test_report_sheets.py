"""The contact sheets: the right samples, legible captions, no truth where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from data.dataset.source import map_pixels
from report.ranking import Ranking
from report.sheets import (
    CELL,
    FONT_SIZE,
    FRAME,
    MARGIN,
    MARK,
    TILE,
    caption,
    class_heading,
    class_text,
    contact_sheet,
    drawable,
    fit,
    load_font,
    percent_text,
    thumbnail,
    write_sheets,
)
from tests.conftest import colourful_images
from tests.report.report_example import make_findings


def holds(sheet: Image.Image, colour: str) -> bool:
    pixels = np.asarray(sheet)
    return bool((pixels == ImageColor.getrgb(colour)).all(axis=-1).any())


def test_ranking_is_by_score_and_by_class() -> None:
    findings = make_findings()
    findings = replace(findings, score=torch.linspace(0, 1, 40))  # the last is the worst
    ranking = Ranking(findings)
    assert [(suspect.index, suspect.rank) for suspect in ranking.worst(2)] == [(39, 1), (38, 2)]
    by_class = ranking.worst_by_class(3, most=2)
    # Labels are the index modulo 4.
    assert [name for name, _ in by_class] == ["class 3", "class 2"]
    assert [suspect.index for suspect in by_class[1][1]] == [38, 34, 30]
    assert [suspect.rank for suspect in by_class[1][1]] == [2, 6, 10]


def test_a_class_without_samples_has_no_row() -> None:
    findings = make_findings()
    training = replace(findings.training, classes=(*findings.training.classes, "empty"))
    by_class = Ranking(replace(findings, training=training)).worst_by_class(8, most=50)
    assert sorted(name for name, _ in by_class) == [f"class {i}" for i in range(4)]


def test_description_of_a_suspect() -> None:
    suspect = Ranking(make_findings()).describe([4])[0]
    assert (suspect.given, suspect.own, suspect.probability) == ("class 0", "class 1", 0.75)
    assert (suspect.name, suspect.poisoned) == ("4", False)
    assert Ranking(make_findings(truth=False)).describe([0])[0].poisoned is None


@pytest.mark.parametrize("size", [8, 16, 32, 100])
def test_small_images_are_enlarged_pixel_by_pixel(size: int) -> None:
    image = colourful_images(1, size)[0]
    pixels = np.asarray(thumbnail(image))
    factor = TILE // size
    expected = image.numpy().repeat(factor, axis=0).repeat(factor, axis=1)
    assert np.array_equal(pixels, expected)


def test_large_images_are_reduced() -> None:
    image = torch.full((300, 150, 3), 80, dtype=torch.uint8)
    small = thumbnail(image)
    assert small.size == (TILE // 2, TILE)
    assert small.getcolors() == [(small.width * small.height, (80, 80, 80))]


def test_sheet_shows_the_samples_in_the_order_asked_for() -> None:
    findings = make_findings(truth=False)
    sheet = contact_sheet(findings, torch.tensor([7, 3, 11]), columns=2)
    side = thumbnail(findings.training.images[7]).height
    row_height = sheet.height // 2
    for place, index in enumerate([7, 3, 11]):
        row, column = divmod(place, 2)
        left = MARGIN + FRAME + column * (sheet.width - 2 * MARGIN + 8) // 2
        top = row * row_height + FRAME + TILE - side
        shown = sheet.crop((left, top, left + side, top + side))
        assert np.array_equal(shown, thumbnail(findings.training.images[index]))


def test_only_poisoned_samples_are_framed_and_only_with_the_truth() -> None:
    known, unknown = make_findings(), make_findings(truth=False)
    assert holds(contact_sheet(known, torch.tensor([0])), MARK)
    assert not holds(contact_sheet(known, torch.tensor([4])), MARK)
    assert not holds(contact_sheet(unknown, torch.arange(40)), MARK)


def test_images_may_be_mapped_from_a_file(tmp_path: Path) -> None:
    findings = make_findings()
    images = findings.training.images
    images.numpy().tofile(tmp_path / "pixels")
    mapped = map_pixels(tmp_path / "pixels", images.shape)
    again = replace(findings, training=replace(findings.training, images=mapped, mapped=True))
    index = torch.arange(5)
    assert np.array_equal(contact_sheet(again, index), contact_sheet(findings, index))


def test_an_empty_choice_is_an_empty_sheet() -> None:
    sheet = contact_sheet(make_findings(), torch.empty(0, dtype=torch.int64))
    assert sheet.getcolors() == [(sheet.width * sheet.height, (255, 255, 255))]


def test_names_that_the_font_lacks_stay_apart() -> None:
    assert drawable("Ärger Жук") == "Ärger Жук"
    assert drawable("A\u0308rger") == "Ärger"  # decomposed, as some file systems have it
    assert drawable("猫\n\udce9x") == "???x"
    assert class_text("猫", 3) != class_text("犬", 4)
    assert class_text("cat", 3) == "cat"


def test_captions_fit_into_their_cells() -> None:
    findings = make_findings()
    names = ("W" * 500, "i", "class with a long name 1", "class with a long name 2")
    files = tuple(f"train/a folder/{'x' * 300}/{i}.png" for i in range(40))
    training = replace(findings.training, classes=names, files=files)
    font = load_font(FONT_SIZE)
    for suspect in Ranking(replace(findings, training=training)).worst(8):
        lines = caption(suspect)
        assert all(font.getlength(line) <= CELL for line in lines)
        assert lines[2].endswith(f"{suspect.index}.png")


def test_long_names_are_cut_in_the_middle() -> None:
    font = load_font(FONT_SIZE)
    first, second = (fit(f"a long common beginning {i}", font, 80) for i in (1, 2))
    assert first != second
    assert first.startswith("a")
    assert fit("short", font, 80) == "short"
    assert fit("anything", font, 1) == "…"


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.999, "99 %"), (0.504, "50 %"), (0.0, "0 %")]
)
def test_certainty_is_not_rounded_up(share: float, text: str) -> None:
    assert percent_text(share) == text


def test_a_sheet_of_many_classes_is_bounded_and_says_so(tmp_path: Path) -> None:
    findings = make_findings(num_classes=40)
    many = replace(
        findings,
        training=replace(
            findings.training,
            images=findings.training.images.repeat(30, 1, 1, 1),
            labels=torch.arange(1200),
            classes=tuple(str(i) for i in range(1200)),
        ),
        opinion=replace(
            findings.opinion,
            predicted=torch.arange(1200),
            probability=findings.opinion.probability.repeat(30),
        ),
        score=torch.linspace(1, 0, 1200),
        contradiction=torch.linspace(1, 0, 1200).double(),
        poisoned=None,
    )
    write_sheets(many, tmp_path)
    with Image.open(tmp_path / "suspects.png") as sheet:
        assert sheet.height < 14_000
    assert "50 of 1200 classes" in class_heading(50, many)
    assert "classes" not in class_heading(40, findings)
    assert [path.name for path in tmp_path.iterdir()] == ["suspects.png"]


def test_the_same_findings_give_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_sheets(make_findings(), tmp_path / name)
        found.append((tmp_path / name / "suspects.png").read_bytes())
    assert found[0] == found[1]

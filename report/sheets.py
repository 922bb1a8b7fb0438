"""Contact sheets: the most suspicious samples as pictures, since people see a trigger at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from data.export import write_picture
from report.findings import Findings
from report.ranking import Ranking, Suspect

WORST = 64  # samples overall
WORST_OF_CLASS = 8
MOST_CLASSES = 50  # rows; a sheet of a thousand classes would be too large to open
FILE = "suspects.png"

TILE = 112  # pixels of a thumbnail's longer side, at most
CELL, GAP, MARGIN = 150, 8, 12  # pixels: width of a caption, between two cells, around all
FONT_SIZE, LINE, HEADING = 11, 15, 15  # pixels
LONGEST = 200  # characters of a line at which the search for a fitting cut starts
FRAME = 3  # pixels of the mark around a poisoned sample
TEXT, PALE, MARK = "#1F2328", "#59636E", "#D55E00"
LEGEND = "given label \u2192 the model's own label; its probability, rank, score; file or index"


@lru_cache
def font_file() -> Path:
    """Return the font that comes with matplotlib, so that every machine draws the same."""
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@lru_cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font at `size` pixels."""
    return ImageFont.truetype(str(font_file()), size)


@lru_cache
def covered() -> frozenset[int]:
    """Return the code points that the font can draw."""
    return frozenset(FT2Font(str(font_file())).get_charmap())


def drawable(text: str) -> str:
    """Return `text` with `?` for what the font lacks (Chinese, say) or what is no character."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(
        sign if sign.isprintable() and ord(sign) in covered() else "?" for sign in composed
    )


def class_text(name: str, label: int) -> str:
    """Return a class's name as it can be drawn; two that cannot still differ by their numbers."""
    text = drawable(name)
    return text if text == unicodedata.normalize("NFC", name) else f"class {label} {text}"


def fit(text: str, font: ImageFont.FreeTypeFont, width: float, keep_end: bool = False) -> str:
    """Return `text`, cut such that it is at most `width` pixels wide.

    Args:
        text: one line.
        font: that it is drawn with.
        width: pixels.
        keep_end: cut the start: the end of a path tells more. Else the middle, since many class
            names begin alike.
    """
    if font.getlength(text) <= width:
        return text
    for kept in range(min(len(text), LONGEST), 0, -1):
        head = 0 if keep_end else -(-kept // 2)
        cut = f"{text[:head]}\u2026{text[len(text) - kept + head :]}"
        if font.getlength(cut) <= width:
            return cut
    return "\u2026"


def thumbnail(image: Tensor) -> Image.Image:
    """Return `image` (H, W, 3) uint8, on any device, as a picture of at most `TILE` pixels a side.

    A small image is enlarged by a whole factor, so that its pixels stay what they are.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.cpu().numpy()))
    longer = max(picture.size)
    if longer > TILE:
        picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
        return picture
    factor = TILE // longer
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )


def percent_text(share: float) -> str:
    """Return a share of 1 as a whole percentage; 100 % is said of nothing less."""
    return f"{min(int(share * 100 + 0.5), 99 if share < 1 else 100)} %"


def label_line(given: str, own: str, font: ImageFont.FreeTypeFont) -> str:
    """Return both labels, as wide as a cell at most; a short one leaves its room to the other."""
    arrow = " \u2192 "
    room = CELL - font.getlength(arrow)
    needed = [font.getlength(name) for name in (given, own)]
    given = fit(given, font, max(room / 2, room - needed[1]))
    return given + arrow + fit(own, font, room - font.getlength(given))


def caption(suspect: Suspect) -> list[str]:
    """Return the three lines below a thumbnail, each as wide as a cell at most."""
    font = load_font(FONT_SIZE)
    given = class_text(suspect.given, suspect.label)
    own = class_text(suspect.own, suspect.predicted)
    scored = f"{percent_text(suspect.probability)}, #{suspect.rank}, {suspect.score:.3f}"
    file = fit(drawable(suspect.name), font, CELL, keep_end=True)
    return [label_line(given, own, font), scored, file]


def draw_cell(sheet: Image.Image, left: int, top: int, image: Tensor, suspect: Suspect) -> None:
    """Draw one sample and its caption; its frame tells the truth, where that is known."""
    pen, font = ImageDraw.Draw(sheet), load_font(FONT_SIZE)
    picture = thumbnail(image)
    x, y = left + FRAME, top + FRAME + TILE - picture.height
    if suspect.poisoned:
        corner = (x + picture.width + FRAME - 1, y + picture.height + FRAME - 1)
        pen.rectangle((x - FRAME, y - FRAME, *corner), fill=MARK)
    sheet.paste(picture, (x, y))
    top += TILE + 2 * FRAME + 2
    for number, line in enumerate(caption(suspect)):
        colour = PALE if number else TEXT
        pen.text((left, top + number * LINE), line, fill=colour, font=font)


def draw_cells(findings: Findings, suspects: Sequence[Suspect], columns: int) -> Image.Image:
    """Return the sheet of `suspects`, row by row."""
    step_x, step_y = CELL + GAP, TILE + 2 * FRAME + 2 + 3 * LINE + GAP
    rows = max(1, -(-len(suspects) // columns))
    sheet = Image.new("RGB", (columns * step_x + 2 * MARGIN - GAP, rows * step_y), "white")
    for number, suspect in enumerate(suspects):
        row, column = divmod(number, columns)
        image = findings.training.images[suspect.index]
        draw_cell(sheet, MARGIN + column * step_x, row * step_y, image, suspect)
    return sheet


def contact_sheet(findings: Findings, indices: Tensor, columns: int = 8) -> Image.Image:
    """Return thumbnails of the samples `indices`, in that order, with captions.

    Below each: given label and the model's own label; its probability, rank and score; file or
    index. Poisoned samples are framed where the truth is known.

    Args:
        findings: of the run.
        indices: (n,) int64.
        columns: thumbnails in a row.
    """
    return draw_cells(findings, Ranking(findings).describe(indices.tolist()), columns)


def heading(text: str, width: int, size: int = HEADING, colour: str = TEXT) -> Image.Image:
    """Return a strip of `width` pixels with one line of text."""
    font = load_font(size)
    strip = Image.new("RGB", (width, size + GAP + MARGIN), "white")
    line = fit(text, font, width - 2 * MARGIN)
    ImageDraw.Draw(strip).text((MARGIN, MARGIN), line, fill=colour, font=font)
    return strip


def stack(parts: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one width, one below the other."""
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def class_heading(shown: int, findings: Findings) -> str:
    """Return the line above the rows of single classes, which says what is left out."""
    first = f"The worst {WORST_OF_CLASS} of each given label, the worst class first"
    total = findings.training.num_classes
    return first if shown == total else f"{first} ({shown} of {total} classes)"


def draw_sheets(findings: Findings) -> Image.Image:
    """Return the worst samples overall and, below, the worst of each class."""
    ranking = Ranking(findings)
    worst = ranking.worst(WORST)
    cells = draw_cells(findings, worst, columns=WORST_OF_CLASS)
    width = cells.width
    legend = LEGEND if findings.poisoned is None else f"{LEGEND}; framed: poisoned (the truth)"
    title = f"The worst {len(worst)} of {len(findings):,} training samples"
    parts = [heading(title, width), heading(legend, width, FONT_SIZE, PALE), cells]
    classes = ranking.worst_by_class(WORST_OF_CLASS, MOST_CLASSES)
    parts.append(heading(class_heading(len(classes), findings), width))
    for name, suspects in classes:
        parts.append(heading(class_text(name, suspects[0].label), width, FONT_SIZE + 2))
        parts.append(draw_cells(findings, suspects, columns=WORST_OF_CLASS))
    return stack(parts)


def write_sheets(findings: Findings, folder: Path) -> None:
    """Write `suspects.png` to `folder`: the worst samples overall, and below of each class.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    write_picture(draw_sheets(findings), folder / FILE)

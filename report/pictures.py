"""Suspects for the page: as pictures that it holds itself, and as rows of a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from report.findings import Findings
from report.ranking import Ranking, Suspect
from report.sheets import thumbnail
from report.witnessed import testimony_on
from utils.tables import table_text

LISTED = 50  # suspects in the table
NATIVE = 64  # pixels of a side up to which an image is embedded as it is


@dataclass(frozen=True)
class Tile:
    """A sample as a picture.

    Attributes:
        suspect: who it is.
        uri: holds the whole image.
        cell: its name in a review, encoded; see `cell_of`.
        verdict: that a person gave before; None without one.
    """

    suspect: Suspect
    uri: str
    cell: str
    verdict: str | None


@dataclass(frozen=True)
class Listed:
    """A suspect with all that the table says of it.

    Attributes:
        suspect: who it is.
        losses: at the last split of each stage.
        reduction: mean loss reduction of the last meta-splits; None without one.
        polluted: epochs in the polluted pool; None without a split.
        witnesses: each witness's suspicion, and whether it vetoes the label.
    """

    suspect: Suspect
    losses: list[float]
    reduction: float | None
    polluted: int | None
    witnesses: list[tuple[float, bool]]


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


def cell_of(name: str) -> str:
    """Return a sample's name as the cell of a review, its bytes in base64.

    The page puts it into the file as it is: bytes that are no text, quotes and defused formulas are
    settled here, as for every other table.
    """
    line = table_text(["file"], [{"file": name}]).split("\n")[1]
    return base64.b64encode(line.encode("utf-8", "surrogateescape")).decode()


def tiles(findings: Findings, suspects: list[Suspect], verdicts: Mapping[int, str]) -> list[Tile]:
    """Return the suspects as pictures.

    Args:
        findings: of the run.
        suspects: in the order in which they are shown.
        verdicts: of a person, by sample.
    """
    images = findings.training.images
    return [
        Tile(
            suspect=suspect,
            uri=image_uri(images[suspect.index]),
            cell=cell_of(suspect.name),
            verdict=verdicts.get(suspect.index),
        )
        for suspect in suspects
    ]


def earlier(
    findings: Findings, verdicts: Mapping[int, str], shown: Iterable[Tile]
) -> list[tuple[str, str]]:
    """Return cell and verdict of the samples that a person has judged and no tile shows.

    They belong into the file that the page saves, or a second review would lose the first.
    """
    cells = {tile.cell for tile in shown}
    judged = ((cell_of(findings.name(index)), verdict) for index, verdict in verdicts.items())
    return [(cell, verdict) for cell, verdict in judged if cell not in cells]


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
            witnesses=testimony_on(findings, suspect.index),
        )
        for suspect in ranking.worst(LISTED)
    ]

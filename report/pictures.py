"""Suspects for the page: as pictures that it holds itself, and as rows of a table."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from report.findings import Findings
from report.ranking import Ranking, Suspect
from report.sheets import thumbnail

LISTED = 50  # suspects in the table
NATIVE = 64  # pixels of a side up to which an image is embedded as it is


@dataclass(frozen=True)
class Tile:
    """A sample as a picture: `uri` holds the whole image."""

    suspect: Suspect
    uri: str


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

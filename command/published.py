"""Figures that others have published, beside which a table is read: `results/published.json`.

Only what can be confirmed is in the file; a cell without a published figure has no distance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.files import PROJECT

PUBLISHED = PROJECT / "results" / "published.json"


@dataclass(frozen=True)
class Figure:
    """One published cell.

    Attributes:
        dataset, attack, defense: as this project calls them.
        acc, asr: fractions of 1; None where it is not known.
        kind: "paper", or "rerun" of the official code by others.
        note: what to know about it.
    """

    dataset: str
    attack: str
    defense: str
    acc: float | None
    asr: float | None
    kind: str
    note: str = ""


def read_published(path: Path = PUBLISHED) -> list[Figure]:
    """Return the published figures.

    Raises:
        InputError: the file is missing or not of this form.
    """
    try:
        return [Figure(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no list of published figures ({error})") from error


def published_for(figures: list[Figure], dataset: str, attack: str, defense: str) -> Figure | None:
    """Return the paper's figure of a cell; None where there is none."""
    place = (dataset, attack, defense)
    for figure in figures:
        if figure.kind == "paper" and (figure.dataset, figure.attack, figure.defense) == place:
            return figure
    return None


def distance(figure: Figure | None, scores: dict[str, Any]) -> dict[str, float]:
    """Return measured minus published `acc` and `asr`, fractions of 1, where both are known."""
    if figure is None:
        return {}
    pairs = {key: (scores.get(key), getattr(figure, key)) for key in ("acc", "asr")}
    return {
        key: float(ours) - theirs
        for key, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None
    }

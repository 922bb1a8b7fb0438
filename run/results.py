"""Figures of finished runs, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from run.fingerprints import same_data
from run.folder import RunFolder
from utils.console import say
from utils.errors import InputError
from utils.files import read_regular

MOST_BYTES = 2**24
Share = Annotated[float, Field(ge=0, le=1)] | None
Name = Annotated[str, Field(max_length=10_000)] | None


class ResultFile(BaseModel):
    """What is read of a `result.json`; an older one lacks what is younger, and may hold more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    defense: Name = None
    attack: Name = None
    acc: Share = None
    asr: Share = None
    seconds: Annotated[float, Field(ge=0, le=1e12)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    verdict: Name = None
    suspected_target: Name = None
    estimated_poisoned: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    suspects_auroc: Share = None
    suspects_precision: Share = None
    fingerprints: dict[str, str] = Field(default_factory=dict)
    device: Name = None
    engine: Name = None
    git_commit: Name = None
    versions: dict[str, str] = Field(default_factory=dict)


def read_result(path: Path) -> dict[str, Any]:
    """Return the content of a finished run's `result.json`.

    Raises:
        InputError: it is missing, or not one of this project.
    """
    try:
        found = json.loads(read_regular(path, MOST_BYTES))
        ResultFile.model_validate(found)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        raise InputError(f"{path}: no result of this project ({place} {first['msg']})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON ({str(error)[:100]})") from error
    return dict(found)


def has_result(folder: RunFolder) -> bool:
    """Return whether a run is finished and its result can be read."""
    try:
        read_result(folder.result)
    except InputError:
        return False
    return True


def comparable_results(folder: RunFolder, fingerprints: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the results of the finished runs beside `folder` on the same poisoned data.

    A damaged one is said and left out.
    """
    results = []
    for path in siblings(folder):
        try:
            result = read_result(path)
        except InputError as error:
            say(f"not compared: {error}")
            continue
        same = same_data(result.get("fingerprints", {}), fingerprints)
        if same and "acc" in result and result.get("defense"):
            results.append({**result, "run": path.parent.name})
    return results


def siblings(folder: RunFolder) -> Iterable[Path]:
    """Return the results of the runs beside `folder`, those moved aside left out.

    `ratio_0.5` is a run; `digits.1` is one that was moved aside, as long as `digits` is there.
    """
    for path in sorted(folder.path.parent.glob("*/result.json")):
        run = path.parent
        numbered = run.suffix.removeprefix(".").isdecimal()
        if path != folder.result and not (numbered and run.with_suffix("").is_dir()):
            yield path

"""Figures of finished runs, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from run.folder import RunFolder


def comparable_results(folder: RunFolder, fingerprints: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the results of the finished runs beside `folder` on the same poisoned data."""
    results = []
    for file in sorted(folder.path.parent.glob("*/result.json")):
        moved_aside = file.parent.suffix.removeprefix(".").isdecimal()
        if file == folder.result or moved_aside:
            continue
        try:
            result = json.loads(file.read_text())
            same = all(
                result["fingerprints"].get(key) == fingerprints.get(key)
                for key in ("data", "poison")
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another program's file
        if same:
            results.append({**result, "run": file.parent.name})
    return results

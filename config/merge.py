"""One settings file on top of another: mappings are merged, all else is replaced.

What an empty key means (`witness:` with nothing below it) is the schema's to say: a section that is
always there stays as it was, one that may be absent goes, and a part's name brings its defaults.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from config.schema import Config
from data.attack.settings import BackdoorSection
from utils.section import Below, Section

# Sections that name one of several parts, wherever they stand: naming another one replaces it,
# with all its settings.
CHOICES = ("network", "optimizer", "lr_scheduler", "criterion")


def merge(base: dict[str, Any], change: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return `base` with `change` on top: mappings are merged, all else is replaced."""
    merged = dict(base)
    if path.rpartition(".")[2] in CHOICES and change and not set(change) & set(base):
        merged = {}
    if path == "backdoor" and attacks(change) and not attacks(change) & attacks(base):
        merged = {key: value for key, value in base.items() if key not in attacks(base)}
    for key, value in change.items():
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            merged[key] = merge(spelt_out(merged.get(key), below), value, below)
        elif value is None and key in merged:
            merged[key] = emptied(merged[key], below)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def attacks(backdoor: dict[str, Any]) -> set[str]:
    """Return the keys of a `backdoor` section that name attacks."""
    return set(backdoor) - set(BackdoorSection.model_fields)


def spelt_out(inherited: Any, path: str) -> dict[str, Any]:
    """Return the mapping that a section at `path` had so far; a plain value may stand for one."""
    if isinstance(inherited, dict):
        return inherited
    section = section_at(path)
    meant = inherited if section is None else section.spelt_out(inherited)
    return meant if isinstance(meant, dict) else {}


def emptied(inherited: Any, path: str) -> Any:
    """Return what an empty key leaves of the value at `path`; None where that chooses nothing."""
    section = section_at(path)
    return None if section is None else section.emptied(inherited)


def section_at(path: str) -> type[Section] | None:
    """Return the section at a dotted path that is there whatever a YAML says; None elsewhere."""
    place = place_of(path.split("."))
    return None if place is None or place.may_be_nothing else place.section


def place_of(keys: Sequence[str]) -> Below | None:
    """Return the section below which all of `keys` lead, each a key of the one before."""
    place: Below | None = Below(Config)
    for key in keys:
        place = place.section.below(key) if place is not None else None
    return place

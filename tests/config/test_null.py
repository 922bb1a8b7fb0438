"""A key that is null stays so in what a run writes down of itself, whatever its default is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
import yaml

import command.reference as page
from config.load import load_config
from config.schema import Config
from defense.settings import own_sections
from tests.conftest import DIGITS
from utils.section import Section

Case = tuple[str, tuple[str, ...]]
# How a part of a registry is chosen; what it cannot do without.
NEEDED = {"network.torchvision": "{name: resnet18}", "network.timm": "{name: resnet18}"}


def nullable(section: type[Section], prefix: str) -> Iterator[str]:
    """Yield the dotted keys of all fields that may be None, in the section and below it."""
    for name, field in section.model_fields.items():
        key, inner = f"{prefix}{field.alias or name}", page.below(field)
        if type(None) in get_args(field.annotation):
            yield key
        if inner is not None:
            yield from nullable(inner, f"{key}.")


def cases() -> Iterator[Case]:
    """Yield each key of the whole schema that may be null, with what must be chosen for it."""
    yield from ((key, ()) for key in nullable(Config, ""))
    for name, section in own_sections().items():
        yield from ((key, (f"defense={name}",)) for key in nullable(section, f"{name}."))
    for place, registry in page.PARTS.items():
        for name in registry:
            part = f"{place}.{name}"
            chosen = f"repair.method={name}" if place == "repair" else None
            chosen = chosen or f"{place}={{{name}: {NEEDED.get(part, '{}')}}}"
            for key in nullable(registry.get(name).Settings, f"{part}."):
                yield key, (chosen,)


CASES = sorted(set(cases()))


def test_all_kinds_of_keys_are_among_them() -> None:
    keys = {key for key, _ in CASES}
    assert {"seed.seed", "abl.ascent_bound", "backdoor.blend.alpha_test", "review"} < keys


@pytest.mark.parametrize(("key", "chosen"), CASES, ids=lambda part: str(part)[:40])
def test_a_null_is_read_again_as_a_null(key: str, chosen: tuple[str, ...]) -> None:
    if "timm" in key:
        pytest.importorskip("timm")
    config = load_config(DIGITS, [*chosen, f"{key}=null"]).config
    written = yaml.safe_load(yaml.safe_dump(config.as_yaml()))
    assert Config.model_validate(written) == config

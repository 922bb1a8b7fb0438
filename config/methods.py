"""Settings of one method alone: `methods` of a YAML.

Methods are compared on the same data and network, but each trains in its own way: what stands below
`methods.none` counts for a run with `defense: none` only. It comes right after the file that holds
it, so a file that extends that one may still change it, and the command line comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from config.no_effect import sections_of_others, stands_in
from config.schema import Config
from defense import DEFENSES
from defense.settings import OF_OPTIMIZER, DefenseSettings, own_sections
from repair import REPAIRS
from utils.errors import InputError, nearest

KEY = "methods"
METHODS = (*DEFENSES, *REPAIRS)
FIXED = {"defense", "parts"}  # of what a defence may know
OF_RUN = ("transform", "test_interval", *OF_OPTIMIZER)
Source = tuple[str, dict[str, Any]]  # a file or the command line, and what it says


def changeable() -> set[str]:
    """Return the keys that may differ from method to method.

    All else makes the data, the network and the run itself.
    """
    return {*DefenseSettings.known_keys(), *own_sections(), *OF_RUN} - FIXED


def with_method(sources: Sequence[Source]) -> list[Source]:
    """Return the sources, each followed by what it says of the method that they choose.

    Raises:
        InputError: `methods` names none, or a key that no method or not this one has for itself.
    """
    chosen = chosen_method(sources)
    found: list[Source] = []
    for name, data in sources:
        found.append((name, {key: value for key, value in data.items() if key != KEY}))
        for method, settings in read_methods(name, data.get(KEY)):
            if method == chosen:
                found.append((f"{name}: {KEY}.{method}", settings))
    return found


def chosen_method(sources: Sequence[Source]) -> Any:
    """Return the repair, else the defence; whatever was given for it, perhaps no name at all."""
    defense, repair = Config.model_fields["defense"].default, None
    for _, data in sources:
        defense = data.get("defense", defense)
        section = data.get("repair", {})
        repair = section.get("method", repair) if isinstance(section, Mapping) else None
    return defense if repair is None else repair


def read_methods(name: str, given: Any) -> Iterator[Source]:
    """Yield each method and its settings from `methods` of the source `name`."""
    if not isinstance(given, Mapping | None):
        raise InputError(f"{name}: {KEY}: a mapping from methods to their settings is expected")
    for method, settings in (given or {}).items():
        if method not in METHODS:
            hint = nearest(str(method), METHODS)
            raise InputError(f"{name}: {KEY}: there is no method {method!r}{hint}")
        if not isinstance(settings, Mapping | None):
            raise InputError(f"{name}: {KEY}.{method}: a mapping of keys is expected")
        refuse_what_is_not_its_own(f"{name}: {KEY}.{method}", method, settings or {})
        yield method, dict(settings or {})


def refuse_what_is_not_its_own(place: str, method: str, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for a key that all methods share, or that this one does not read."""
    part = DEFENSES.get(method) if method in DEFENSES else REPAIRS.get(method)
    for key in dotted(settings):
        first = key.partition(".")[0]
        if first not in changeable():
            hint = nearest(first, changeable())
            raise InputError(f"{place}.{key}: no key that may differ between methods{hint}")
        if stands_in(key, (*part.ignored_keys, *sections_of_others(method))):
            raise InputError(f"{place}.{key}: {method} does not read it; leave it out")


def dotted(settings: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested settings that are no sections."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"

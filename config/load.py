"""Reading the configuration: a YAML, what it extends, and overrides from the command line."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from config.auto import TYPICAL, covers, open_keys, settle
from config.schema import NO_EFFECT, Config
from data.attack.settings import BackdoorSection
from data.survey import Facts
from utils.errors import InputError

COMMAND_LINE = "command line"
CONFIG_FOLDER = Path(__file__).resolve().parent
# Sections that name one of several parts: naming another one replaces it, with all its settings.
# So does a `network` anywhere below, as of an attack that trains one.
CHOICES = {
    "network",
    "optimizer",
    "lr_scheduler",
    "criterion",
    "split.criterion",
    "meta.optimizer",
    "meta.criterion",
}


class StrictLoader(yaml.SafeLoader):
    """Plain data only; `1e-3` is a number (YAML 1.2), and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping, after a look for keys given twice."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                problem = f"the key {key!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Return the data in `text`.

    Raises:
        InputError: it is no YAML; the line is named.
    """
    try:
        return yaml.load(text, Loader=StrictLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: {error.problem or 'no valid YAML'}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{where}: no valid YAML ({error})".replace("\n", " ")) from error


@dataclass(frozen=True)
class Loaded:
    """A configuration and what to say about it.

    Attributes:
        name: of the run's folder.
        notices: lines about keys that have no effect, and about what was chosen for `auto`.
        open_keys: those that are `auto` and that nobody has chosen yet, since it takes a look at
            the data; in `config` they have values of some other data.
    """

    config: Config
    name: str
    notices: list[str]
    open_keys: tuple[str, ...] = ()


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML at `path`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: cannot be read ({error})") from error
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise InputError(f"{path}: a mapping of keys is expected, not {type(data).__name__}")
    return data


def read_chain(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the YAML at `path` and all that it extends, the most general first, by file name."""
    files: list[tuple[str, dict[str, Any]]] = []
    seen: set[Path] = set()
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise InputError(f"{current}: extends itself")
        seen.add(current.resolve())
        data = read_mapping(current)
        parent = data.pop("extends", None)
        if parent is not None and not isinstance(parent, str):
            raise InputError(f"{current}: extends: the path of a YAML is expected")
        files.insert(0, (str(current), data))
        current = None if parent is None else current.parent / parent
    return files


def read_override(argument: str) -> dict[str, Any]:
    """Return `a.b=value` as nested mappings; the value is read as YAML."""
    key, equals, value = argument.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"{argument}: an override reads key.subkey=value")
    data = parse_yaml(value, f"{COMMAND_LINE}: {key}")
    for part in reversed(key.split(".")):
        data = {part: data}
    return data


def merge(base: dict[str, Any], change: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return `base` with `change` on top: mappings are merged, all else is replaced."""
    merged = dict(base)
    if (path in CHOICES or path.endswith(".network")) and change and not set(change) & set(base):
        merged = {}
    if path == "backdoor" and attacks(change) and not attacks(change) & attacks(base):
        merged = {key: value for key, value in base.items() if key not in attacks(base)}
    for key, value in change.items():
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value, below)
        elif isinstance(value, dict):
            merged[key] = merge({}, value, below)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def attacks(backdoor: dict[str, Any]) -> set[str]:
    """Return the keys of a `backdoor` section that name attacks."""
    return set(backdoor) - set(BackdoorSection.model_fields)


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key in nested mappings, sections included."""
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, str(key)))


def load_config(
    path: Path,
    overrides: Sequence[str] = (),
    facts: Facts | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> Loaded:
    """Return the validated configuration.

    Args:
        path: of the YAML.
        overrides: `key.subkey=value`, applied last.
        facts: about data and device, by which `auto` is settled.
        earlier: settings of a run that goes on, which keeps what was chosen for it.

    Raises:
        InputError: unreadable, unknown key, wrong type or range, or keys that contradict.
    """
    sources = read_chain(path)
    sources += [(COMMAND_LINE, read_override(argument)) for argument in overrides]
    merged: dict[str, Any] = {}
    origin: dict[tuple[str, ...], str] = {}
    for name, data in sources:
        merged = merge(merged, data)
        origin.update(dict.fromkeys(leaves(data), name))
    left = open_keys(merged)
    settled, lines = settle(merged, facts or TYPICAL, earlier)
    try:
        config = Config.model_validate(settled)
    except ValidationError as error:
        raise InputError(describe(error, origin, str(path))) from error
    given = {".".join(key) for key in leaves(merged)}
    notices = [f"{key} has no effect: {why}" for key, why in NO_EFFECT.items() if key in given]
    if facts is None and not covers(earlier, left):
        return Loaded(config, run_name(path), notices, tuple(left))
    return Loaded(config, run_name(path), notices + lines)


def run_name(path: Path) -> str:
    """Return the run's name: the YAML's path below `config/`, or its file name elsewhere."""
    resolved = path.resolve().with_suffix("")
    if resolved.is_relative_to(CONFIG_FOLDER):
        return resolved.relative_to(CONFIG_FOLDER).as_posix()
    return resolved.name


def flatten(errors: Sequence[Any], prefix: tuple[Any, ...] = ()) -> Iterator[dict[str, Any]]:
    """Yield all errors, with those of chosen parts in their place."""
    for error in errors:
        location = (*prefix, *error["loc"])
        if error["type"] == "nested":
            yield from flatten(error["ctx"]["errors"], location)
        else:
            yield {**error, "loc": location}


def describe(error: ValidationError, origin: dict[tuple[str, ...], str], file: str) -> str:
    """Return one line for the first error: file, dotted key, what was given, what is allowed."""
    errors = list(flatten(error.errors()))
    # An unknown key explains more than what follows from its absence.
    errors.sort(key=lambda item: item["type"] != "unknown_key")
    first = errors[0]
    location = tuple(str(part) for part in first["loc"])
    context = first.get("ctx") or {}
    if first["type"] == "unknown_key":
        location = (*location, context["key"])
        message = f"unknown key{context['hint']}"
    else:
        message = explain(first)
    where = next(
        (origin[location[:n]] for n in range(len(location), 0, -1) if location[:n] in origin), file
    )
    key = ".".join(location)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {key + ': ' if key else ''}{message}{more}"


def explain(error: dict[str, Any]) -> str:
    """Return what was given and what is allowed."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in {"contradiction", "one_of", "value_error", "unknown_name", "rejected"}:
        return message
    if error["type"] == "missing":
        return "is missing"
    if error["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        message = "a mapping of keys is expected"
    return f"{error['input']!r} given; {message[0].lower()}{message[1:]}"

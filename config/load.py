"""Reading the configuration: a YAML, what it extends, and overrides from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.auto import TYPICAL, WANTED, covers, open_keys, settle
from config.merge import merge
from config.methods import with_method
from config.no_effect import without_effect
from config.override import COMMAND_LINE, read_override
from config.schema import Config
from data.survey import Facts
from training.torch_parts import rehearse_schedule
from utils.errors import InputError
from utils.paths import user_path
from utils.plain_yaml import read_yaml

CONFIG_FOLDER = Path(__file__).resolve().parent
PUBLISHED_SCHEDULES = {"multi_step": "MultiStepLR", "cosine_annealing": "CosineAnnealingLR"}


@dataclass(frozen=True)
class Loaded:
    """A configuration and what to say about it.

    Attributes:
        name: of the run's folder.
        notices: lines about keys that have no effect, and about what was chosen for `auto`.
        open_keys: those that are `auto` and that nobody has chosen yet, since it takes a look at
            the data; in `config` they have values of some other data.
        wants_backbone: whether one of them is `network: pretrained`.
    """

    config: Config
    name: str
    notices: list[str]
    open_keys: tuple[str, ...] = ()
    wants_backbone: bool = False


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML at `path`."""
    data = read_yaml(path, str(path))
    if not isinstance(data, dict):
        raise InputError(f"{path}: a mapping of keys is expected, not {type(data).__name__}")
    return data


def with_our_names(data: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the schedules of the published code under PyTorch's names."""
    schedule = data.get("lr_scheduler")
    if not isinstance(schedule, dict):
        return data
    named = {PUBLISHED_SCHEDULES.get(name, name): value for name, value in schedule.items()}
    return {**data, "lr_scheduler": named}


def read_chain(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the YAML at `path` and all that it extends, the most general first, by file name."""
    files: list[tuple[str, dict[str, Any]]] = []
    seen: set[Path] = set()
    current: Path | None = user_path(str(path), "--config")
    while current is not None:
        if current.resolve() in seen:
            raise InputError(f"{current}: extends itself")
        seen.add(current.resolve())
        data = read_mapping(current)
        parent = data.pop("extends", None)
        if parent is not None and not isinstance(parent, str):
            raise InputError(f"{current}: extends: the path of a YAML is expected")
        files.insert(0, (str(current), data))
        current = None if parent is None else beside(current, parent)
    return files


def beside(file: Path, name: str) -> Path:
    """Return the YAML `name` that `file` extends."""
    key = f"{file}: extends"
    return user_path(str(file.parent / user_path(name, key)), key)


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key in nested mappings, sections included."""
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, str(key)))


def places(sources: Sequence[tuple[str, dict[str, Any]]], merged: dict[str, Any]) -> dict[str, int]:
    """Return for each key of `merged` that is no section the number of the last source with it."""
    kept = {key for key in leaves(merged) if not isinstance(value_at(merged, key), dict)}
    found: dict[str, int] = {}
    for number, (_, data) in enumerate(sources):
        found.update({".".join(key): number for key in leaves(data) if key in kept})
    return found


def first_typed(sources: Sequence[tuple[str, dict[str, Any]]]) -> int:
    """Return the number of the first source that is no file, the count of files without one."""
    names = [name for name, _ in sources]
    return names.index(COMMAND_LINE) if COMMAND_LINE in names else len(names)


def value_at(data: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path of keys that is there."""
    for part in path:
        data = data[part]
    return data


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
    sources = [(name, with_our_names(data)) for name, data in with_method(sources)]
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
    is_open = facts is None and not covers(earlier, left)
    epochs = 1 if is_open and "num_epochs" in left else config.scheduled_epochs
    rehearse_schedule(config.lr_scheduler, config.optimizer, epochs)
    notices = of_stages(merged, config)
    notices += without_effect(config, places(sources, merged), first_typed(sources))
    if is_open:
        wanted = (WANTED[0], merged.get(WANTED[0])) == WANTED
        return Loaded(config, run_name(path), notices, tuple(left), wanted)
    return Loaded(config, run_name(path), notices + lines)


def of_stages(merged: Mapping[str, Any], config: Config) -> list[str]:
    """Return a line where a method's own stages are longer or shorter than `num_epochs` says."""
    given = merged.get("num_epochs")
    if config.stages is None or given in (None, config.num_epochs):
        return []
    return [f"num_epochs: {given} has no effect: {config.defense} has {config.num_epochs} epochs"]


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
    if error["type"] == "string_type":
        message = "a text is expected; put it in quotes"
    return f"{error['input']!r} given; {message[0].lower()}{message[1:]}"

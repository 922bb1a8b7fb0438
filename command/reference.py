"""The reference of the configuration, written from the schema: `python -m command.reference`.

What a key means stands where the key is defined, in its section's docstring; nothing is said twice.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.methods import changeable
from config.rules import PRETRAINED, RULES
from config.schema import Config
from data.attack import ATTACKS
from data.dataset import DATASETS
from data.transform import TRANSFORMATIONS
from defense import DEFENSES
from defense.settings import own_sections
from loss import CRITERIA
from model import NETWORKS
from repair import REPAIRS
from utils.choice import Choice
from utils.console import say
from utils.files import PROJECT, write_text
from utils.registry import Registry
from utils.section import Section
from witness import WITNESSES

FILE = PROJECT / "docs" / "configuration.md"
OF_METHOD = ", ".join(f"`{key}`" for key in sorted(changeable()))
HEAD = f"""# Configuration

Written by `python -m command.reference` from the code; do not edit it.

A YAML of the published code runs once its two paths point somewhere. A YAML may start from
another one: `extends: baseline_asd.yaml`. Mappings are merged, all else is replaced. Naming another
network, optimiser, schedule, loss or attack replaces the one before, with its settings. A section
with nothing below it keeps what it inherits. On the command line `key.subkey=value` sets any key.
An unknown key is an error that names the nearest one.

What stands below `methods.<name>` counts for that defence or repair alone, on top of the rest of
its file: `methods: {{none: {{num_epochs: 200}}}}`. It may hold what a method trains with:
{OF_METHOD}. What another method alone reads is an error there; typed on the command line it has no
effect, and a line says so.
"""
# Where a part is named, and the table of what may be named there.
PARTS: dict[str, Registry[Any]] = {
    "backdoor": ATTACKS,
    "network": NETWORKS,
    "witness.heard": WITNESSES,
    "repair": REPAIRS,
    "criterion": CRITERIA,
    "transform.train.primary": TRANSFORMATIONS,
}
FITTED = f"""## What may be `auto`

A number or part fitted to data and device before the run begins; a line says what was chosen, and
why. `config/own_data.yaml` leaves all of these to it. `network: {PRETRAINED}` asks for weights of
ImageNet where they can be had. The rules are in `config/auto.py`. `global.seed_num`,
`global.epsilon` and keys of `speed` know an `auto` of their own, see there.
"""
OF_PYTORCH = """## PyTorch's own parts

`optimizer` takes any class of `torch.optim`, and `lr_scheduler` any of `torch.optim.lr_scheduler`
that is stepped once an epoch, with its arguments: `optimizer: {SGD: {lr: 0.1, momentum: 0.9}}`.
Both are tried out on a few numbers before the run begins.
"""
OF_PARTS = {"attack", "parts"}  # fields that hold what a registry names
NAMES: dict[str, Registry[Any]] = {"dataset": DATASETS, "defense": DEFENSES}


def reference() -> str:
    """Return the whole page, Markdown."""
    fields = Config.model_fields
    plain = {n: f for n, f in fields.items() if not below(f) and n not in OF_PARTS}
    blocks = ["## Top level\n", *table("", plain)]
    for name, field in fields.items():
        section = below(field)
        sections = {field.alias or name: section} if section else {}
        for key, found in (own_sections() if name in OF_PARTS else sections).items():
            blocks += describe(key, found, "##")
    blocks += [FITTED, ", ".join(f"`{key}`" for key in RULES) + "\n", OF_PYTORCH]
    for key, registry in PARTS.items():
        blocks.append(f"## What `{key}` may name\n")
        for name in registry:
            blocks += part(key, name, registry.get(name))
    text = "\n".join(blocks)
    return "\n".join([HEAD, *contents(text), text]).rstrip() + "\n"


def contents(page: str) -> Iterator[str]:
    """Yield a list of links to the sections of a page, Markdown."""
    for heading in re.findall(r"^## (.+)$", page, re.MULTILINE):
        yield f"- [{heading}](#{anchor(heading)})"
    yield ""


def anchor(heading: str) -> str:
    """Return what a link to a heading ends with, as the repository's page makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def below(field: FieldInfo) -> type[Section] | None:
    """Return the section that a key holds; None for a plain value."""
    options = [field.annotation, *get_args(field.annotation)]
    found = [kind for kind in options if inspect.isclass(kind) and issubclass(kind, Section)]
    return found[0] if found else None


def describe(path: str, section: type[Section], heading: str) -> Iterator[str]:
    """Yield a section's heading, what it says of itself, its keys, and the sections below it."""
    yield f"{heading} `{path}`\n"
    yield text_of(section) + "\n"
    inner = {name: below(field) for name, field in section.model_fields.items()}
    plain = {
        n: f for n, f in section.model_fields.items() if inner[n] is None and n not in OF_PARTS
    }
    yield from table(f"{path}.", plain)
    for name, kind in inner.items():
        if kind is not None:
            yield from describe(f"{path}.{section.model_fields[name].alias or name}", kind, "###")


def part(key: str, name: str, kind: Any) -> Iterator[str]:
    """Yield a part's heading, its first sentences, and what may be set below it."""
    yield f"### `{key}.{name}`\n"
    settings: type[Section] = kind.Settings
    own = text_of(settings) if "Settings" in vars(kind) else ""
    yield "\n\n".join(filter(None, [text_of(kind).partition("\n\n")[0], own])) + "\n"
    yield from table("", settings.model_fields)


def text_of(kind: type) -> str:
    """Return a class's own docstring, without what its code needs to know."""
    whole = inspect.cleandoc(kind.__doc__ or "")
    return re.split(r"\n\n(?:Args|Attributes|Raises):", whole)[0]


def table(prefix: str, fields: dict[str, FieldInfo]) -> Iterator[str]:
    """Yield the table of plain keys; nothing where there are none."""
    if not fields:
        return
    rows = ["| key | values | default |", "|---|---|---|"]
    for name, field in fields.items():
        key = field.alias or name
        values = listed(NAMES[key]) if not prefix and key in NAMES else values_of(field)
        rows.append(f"| `{prefix}{key}` | {values} | {default_of(field)} |")
    yield "\n".join(rows) + "\n"


def listed(registry: Registry[Any]) -> str:
    """Return the names in a table of parts."""
    return ", ".join(f"`{name}`" for name in registry)


def values_of(field: FieldInfo) -> str:
    """Return what a key takes, with its limits."""
    limits = [text for item in field.metadata if (text := limit(item))]
    return ", ".join([kind_of(field.annotation), *limits])


def limit(item: Any) -> str:
    """Return one limit as text; empty for metadata that is none."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [f"{sign} {getattr(item, name)}" for name, sign in signs.items() if hasattr(item, name)]
    return " and ".join(found)


def kind_of(annotation: Any) -> str:
    """Return a type in words."""
    words = {bool: "true, false", int: "whole number", float: "number", str: "text", Choice: "part"}
    if annotation in words:
        return words[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in inner)
    if origin is Annotated:
        limits = [text for item in inner[1:] if (text := limit(item))]
        return ", ".join([kind_of(inner[0]), *limits])
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(kind) for kind in inner if kind is not type(None))
    if origin in (list, tuple):
        return f"list of {kind_of(inner[0])}" if inner else "list"
    return "mapping" if origin is dict else "part"


def default_of(field: FieldInfo) -> str:
    """Return a key's default as it would stand in a YAML."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "must be given"
    if value is None:
        return ""
    if isinstance(value, Section):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, Choice):
        value = value.as_yaml()
    return f"`{json.dumps(value, default=str)}`"


def main() -> None:
    """Write the page."""
    write_text(FILE, reference())
    say(f"written to {FILE}")


if __name__ == "__main__":
    main()

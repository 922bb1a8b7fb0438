"""`model_card.md`: what a stranger should know of a model before using it, from `result.json`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from repair import REPAIRS
from report.content import tested_images
from report.verdict import Verdict
from run.product import DESCRIPTION, WEIGHTS, Description
from utils.files import write_text

FILE = "model_card.md"
CONTROL = re.compile("[\\x00-\\x1f\\x7f`\ud800-\udfff]")
MADE_WITH = ("defense", "epochs", "seconds", "seed", "device", "git_commit")


def write_card(
    folder: Path, result: Mapping[str, Any], description: Description, verdict: Verdict
) -> None:
    """Write the card into `folder`, that of the run, beside the model.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    write_text(folder / FILE, model_card(folder.name, result, description, verdict))


def model_card(
    name: str, result: Mapping[str, Any], description: Description, verdict: Verdict
) -> str:
    """Return the card.

    Args:
        name: of the run.
        result: content of `result.json`.
        description: content of `model.json`.
        verdict: on the training data.
    """
    sections: dict[str, Sequence[str]] = {
        "What it is": what_it_is(result, description),
        "Its training data": [as_code(verdict.lines()), provenance(result)],
        "Measured": measured(result),
        "How to use it": USE,
        "What it is not": limits(result),
        "How it was made": made(result),
    }
    parts = (f"## {title}\n\n" + "\n\n".join(part) for title, part in sections.items())
    body = "\n\n".join(parts)
    return f"---\n{head(name, result, description)}---\n\n# {quoted(name)}\n\n{body}\n"


UNDEFENDED = "none"  # a defence, or what the model of a repair was trained by
USE = (
    "```bash\npython ASD.py --config CONFIG --predict FOLDER\n```",
    f"`{WEIGHTS}` holds the weights, `{DESCRIPTION}` classes, input size, scaling, and the network "
    "operation by operation, so that it can be used without this project. Neither can run code.",
)


def provenance(result: Mapping[str, Any]) -> str:
    """Return how far the model trusted the labels of its training data."""
    method = str(result.get("defense"))
    if method == UNDEFENDED:
        return "The model trusted every label: what the verdict names, it has learnt."
    if method in REPAIRS:
        return (
            "The model was trained without a defence and then repaired with clean images; what the "
            "verdict names, it may still do."
        )
    return (
        "The model was trained not to trust the given labels; the data set itself may still hold "
        "what the verdict names."
    )


def as_code(lines: Iterable[str]) -> str:
    """Return lines, perhaps with names of strangers, as a block in which Markdown means nothing."""
    return "\n".join(["```text", *(CONTROL.sub("?", line.strip()) for line in lines), "```"])


def quoted(value: Any) -> str:
    """Return a text of strangers as code, in which Markdown means nothing."""
    return f"`{CONTROL.sub('?', str(value)) or '?'}`"


def head(name: str, result: Mapping[str, Any], description: Description) -> str:
    """Return the card's metadata as Hugging Face reads it, as YAML."""
    dataset = CONTROL.sub("?", str(description.dataset))
    known = {"accuracy": result.get("acc"), "attack_success_rate": result.get("asr")}
    metrics = [
        {"type": kind, "value": round(float(value), 6)}
        for kind, value in known.items()
        if value is not None
    ]
    task = {"type": "image-classification"}
    entry = {"task": task, "dataset": {"name": dataset, "type": dataset}, "metrics": metrics}
    content = {
        "license": "unknown",
        "library_name": "asd",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "backdoor-defense", "safetensors", "asd"],
        "model-index": [{"name": CONTROL.sub("?", name), "results": [entry] if metrics else []}],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def what_it_is(result: Mapping[str, Any], description: Description) -> list[str]:
    """Return what the model does."""
    classes, (height, width) = description.classes, description.input_size
    shown = ", ".join(map(quoted, classes[:20])) + (", ..." if len(classes) > 20 else "")
    return [
        f"A classifier of images ({quoted(description.network.name)}, {width}x{height} pixels) "
        f"with {len(classes)} classes: {shown}.",
        f"Trained by this project (method {quoted(result.get('defense'))}) on "
        f"{result.get('training_samples', 0):,} images of {quoted(description.dataset)}.",
    ]


def measured(result: Mapping[str, Any]) -> list[str]:
    """Return ACC and, under an attack of our own, ASR, as a table."""
    rows = ["| | |", "|---|---|"]
    if result.get("acc") is not None:
        rows.append(f"| accuracy on {tested_images(result)} (ACC) | {result['acc']:.2%} |")
    if result.get("asr") is not None:
        attack = quoted(result.get("attack"))
        rows.append(
            f"| success of the attack {attack} (ASR), lower is better | {result['asr']:.2%} |"
        )
    if len(rows) == 2:
        return ["Nothing: there were no test images."]
    return ["\n".join(rows)]


def limits(result: Mapping[str, Any]) -> list[str]:
    """Return what nobody should conclude."""
    found = [
        "No proof that the model has no backdoor. It says nothing about other data than these."
    ]
    if result.get("seed_choice") == "witnesses":
        found.append("Nobody had verified a sample: the start was chosen by the witnesses.")
    elif not result.get("seeds_checked", False):
        found.append("Nobody had checked the samples from which the defence started.")
    if "attack" in result:
        found.append("The data were poisoned on purpose, to measure the defence.")
    return found


def made(result: Mapping[str, Any]) -> list[str]:
    """Return how the run can be told from others."""
    rows = ["| | |", "|---|---|"]
    rows += [
        f"| {key} | {quoted(result[key])} |" for key in MADE_WITH if result.get(key) is not None
    ]
    for kind in ("fingerprints", "versions"):
        entries = dict(result.get(kind) or {})
        rows += [f"| {kind}, {key} | {quoted(value)} |" for key, value in entries.items()]
    return ["\n".join(rows)]

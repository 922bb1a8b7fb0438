"""The model as others use it: weights in safetensors, and a JSON beside them with all the rest.

Neither file can run code. With both, images are labelled without the training data and without the
configuration; the JSON's list of operations does so even without this project.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from config.load import describe
from data.dataset.decode import Frame
from data.transform.settings import TransformSection
from model import NETWORKS, Network, NetworkChoice, build_network
from model.network import without_memory
from model.operations import NotDescribable, Operation, list_operations
from utils.console import say
from utils.errors import InputError
from utils.files import read_regular, write_atomically, write_text
from utils.section import Section

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
MOST_WEIGHTS, MOST_DESCRIPTION = 2**34, 2**28  # bytes that are read of a stranger's file
SCALING = "(pixel / 255 - mean) / std, for each of R, G, B; images are (N, 3, height, width)"


class FrameSection(Section):
    """How a file of any size becomes a stored image; see `data.dataset.decode.Frame`."""

    size: int = Field(ge=1)
    shorter_side: int | None = Field(default=None, ge=1)

    def frame(self) -> Frame:
        """Return the frame."""
        return Frame(self.size, self.shorter_side)


class Description(Section):
    """The content of `model.json`.

    Attributes:
        format: of the file; raised whenever older code could misread it.
        network: its name and settings, as in the YAML.
        classes: names; the logits are in this order.
        input_size: height and width of the images that the network takes, in pixels.
        mean, std: of pixels in 0..1, for each of R, G, B.
        scaling: the same in words.
        frame: how a file of any size becomes a stored image.
        transform: what happens to a stored image before the network sees it.
        acc: accuracy on the test images after the last epoch, 0..1; None without test images.
        verdict: what the run says of its training data; None where nothing is said.
        dataset: name of the data set.
        epochs: that the network was trained for.
        data_fingerprint: SHA-256 of the data set.
        weights_sha256: of the file with the weights.
        git_commit, versions: what it was made with.
        operations: what the network computes, as `model.operations` writes it; None where it
            cannot be written so.
    """

    format: Literal[1] = 1
    network: NetworkChoice
    classes: list[str] = Field(min_length=2)
    input_size: list[int] = Field(min_length=2, max_length=2)
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[float] = Field(min_length=3, max_length=3)
    scaling: str = SCALING
    frame: FrameSection
    transform: TransformSection
    acc: float | None = None
    verdict: dict[str, Any] | None = None
    dataset: str | None = None
    epochs: int | None = None
    data_fingerprint: str | None = None
    weights_sha256: str = ""
    git_commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    operations: list[Operation] | None = None


def save_model(folder: Path, network: Network, description: Description) -> None:
    """Write `model.safetensors` and `model.json` into `folder`.

    The JSON comes last and holds the digest of the weights, so that a pair is never of two runs.

    Args:
        folder: of the run.
        network: on any device; it is left as it is.
        description: its `weights_sha256` and `operations` are filled in here.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    weights = plain_weights(network)
    body = safetensors.torch.save(weights, metadata={"format": "pt"})
    write_atomically(folder / WEIGHTS, lambda file: file.write(body))
    update = {
        "weights_sha256": hashlib.sha256(body).hexdigest(),
        "operations": describe_operations(weights, description),
    }
    write_text(folder / DESCRIPTION, as_json(description.model_copy(update=update)))


def plain_weights(network: Network) -> dict[str, Tensor]:
    """Return the state dict on the CPU: fp32 (counts stay whole numbers), in the usual order."""
    return {
        name: (value.float() if value.is_floating_point() else value)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def describe_operations(
    weights: dict[str, Tensor], description: Description
) -> list[Operation] | None:
    """Return the network's operations; say a line where there is no list of them."""
    network = build(description)
    network.load_state_dict(weights)
    try:
        return list_operations(network.eval(), *description.input_size)
    except NotDescribable as error:
        say(f"{DESCRIPTION}: without operations, so this project is needed to use it ({error})")
        return None


def as_json(description: Description) -> str:
    """Return the text of `model.json`: an operation a line, since there may be hundreds."""
    content = description.model_dump(mode="json", by_alias=True)
    content["transform"].pop("train")
    operations = content.pop("operations")
    head = json.dumps(content, indent=2).removesuffix("\n}")
    if operations is None:
        return f'{head},\n  "operations": null\n}}\n'
    rows = ",\n    ".join(json.dumps(row) for row in operations)
    return f'{head},\n  "operations": [\n    {rows}\n  ]\n}}\n'


def build(description: Description) -> Network:
    """Return the untrained network that is described."""
    choice, classes = description.network, len(description.classes)
    return build_network(NETWORKS.get(choice.name), choice.settings, classes, 0, start=False)


def is_saved(folder: Path) -> bool:
    """Return whether `folder` holds a whole model."""
    try:
        read_weights(folder / WEIGHTS, read_description(folder / DESCRIPTION))
    except InputError:
        return False
    return True


def load_model(folder: Path) -> tuple[Network, Description]:
    """Return the network, on the CPU in eval mode, and its description; nothing is executed.

    Raises:
        InputError: the files are missing, torn, of two runs, or not of this project.
    """
    description = read_description(folder / DESCRIPTION)
    path = folder / WEIGHTS
    body = read_weights(path, description)
    try:
        weights = safetensors.torch.load(body)
        # A few bytes of JSON may ask for a network of gigabytes.
        sizes = without_memory(lambda: build(description))
        sizes.load_state_dict({name: weight.to("meta") for name, weight in weights.items()})
        network = build(description)
        network.load_state_dict(weights)
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: does not fit {DESCRIPTION} ({reason})") from error
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise InputError(f"{path}: the weights {name!r} are not finite, so they say nothing")
    return network.eval(), description


def read_weights(path: Path, description: Description) -> bytes:
    """Return the content of `model.safetensors`, which is the described one."""
    try:
        body = read_regular(path, MOST_WEIGHTS)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(body).hexdigest() != description.weights_sha256:
        raise InputError(
            f"{path}: damaged, or not the weights that {DESCRIPTION} describes; evaluate the "
            f"finished run again (without --predict) to have both written anew"
        )
    return body


def refuse_constant(name: str) -> float:
    """Refuse NaN and infinity, which are not JSON, although Python reads them."""
    raise ValueError(f"{name} is no number")


def read_description(path: Path) -> Description:
    """Return the content of `model.json`.

    Raises:
        InputError: it is missing or not one of this project.
    """
    try:
        text = read_regular(path, MOST_DESCRIPTION).decode("utf-8")
        content = json.loads(text, parse_constant=refuse_constant)
        return Description.model_validate(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise InputError(describe(error, {}, str(path))) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON ({error})") from error

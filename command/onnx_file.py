"""`--export-onnx`: a run's model as one ONNX file, checked against the model itself.

The graph holds scaling and softmax, too: it takes RGB images in 0..1 of any number, as everybody
has them, and gives the probabilities that `--predict` prints.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model import Network
from run.product import Description
from utils.errors import InputError, TrainingError
from utils.files import write_atomically

KEY = "--export-onnx"
NEEDED = ("onnx", "onnxscript")
RUNTIME = "onnxruntime"
INSTALL = "pip install onnx onnxscript onnxruntime"
INPUT, OUTPUT = "images", "probabilities"
TRACED = 2  # images; with one, the exporter would take the number for fixed
CHECKED = (1, 3)  # images in a batch
TOLERANCE = 1e-4  # of a probability


class Whole(nn.Module):
    """A network with what comes before and after it.

    Args:
        network: in eval mode.
        description: of it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, description: Description) -> None:
        super().__init__()
        self.network = network
        normalize = description.transform.test.remaining.normalize  # what `--predict` reads
        self.register_buffer("mean", torch.tensor(normalize.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(normalize.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, K) probabilities of `images` (N, 3, H, W) in 0..1."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits.softmax(dim=1)


def check_target(file: Path) -> None:
    """Raise `InputError` if `file` cannot be made, or the packages for it are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{KEY} needs the package {' and '.join(missing)}: {INSTALL}")
    if file.exists():
        raise InputError(f"{KEY}: {file} is there already; name another file")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"{KEY}: {file.parent} is no folder that can be written to")


def write_onnx(network: Network, description: Description, file: Path) -> list[str]:
    """Write the model to `file`; return lines to say.

    Args:
        network: on the CPU, in eval mode.
        description: of it.
        file: that is not there yet.

    Raises:
        TrainingError: the model cannot be written so, or the file gives other probabilities.
    """
    whole = Whole(network, description).eval()
    body = serialise(whole, description)
    lines = check(whole, description, body)
    write_atomically(file, lambda stream: stream.write(body))
    height, width = description.input_size
    return [
        f"{file}: takes {INPUT} (any number, 3, {height}, {width}), RGB in 0..1, prepared as its "
        f"metadata say; gives {OUTPUT} of {len(description.classes)} classes, named there, too",
        *lines,
    ]


def serialise(whole: Whole, description: Description) -> bytes:
    """Return the content of the ONNX file.

    Raises:
        TrainingError: the exporter or ONNX's own checker refuses the model.
    """
    import onnx  # here, since few need it

    example = torch.rand(TRACED, 3, *description.input_size)
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                whole,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
            assert program is not None
            model = program.model_proto
            onnx.helper.set_model_props(model, properties(description))
            onnx.checker.check_model(model)
            return bytes(model.SerializeToString())
    except Exception as error:  # whatever the exporter of whatever version raises
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{KEY}: this network cannot be written as ONNX ({reason})") from error


class quiet(redirect_stdout[io.StringIO]):  # noqa: N801
    """What the exporter says, it says to nobody; an error of it is told in a line."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self._stderr = redirect_stderr(io.StringIO())
        self._level = logging.root.manager.disable

    def __enter__(self) -> io.StringIO:
        logging.disable(logging.CRITICAL)
        self._stderr.__enter__()
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        self._stderr.__exit__(*reason)
        logging.disable(self._level)


def properties(description: Description) -> dict[str, str]:
    """Return what the file says of itself, as text by name."""
    verdict = description.verdict or {}
    return {
        "classes": json.dumps(description.classes),
        "input": "RGB, 0..1, (N, 3, height, width)",
        "preparation": json.dumps(description.model_dump(include={"frame", "transform"})),
        "dataset": description.dataset or "",
        "verdict_on_training_data": str(verdict.get("verdict", "")),
        "weights_sha256": description.weights_sha256,
    }


def check(whole: Whole, description: Description, body: bytes) -> list[str]:
    """Compare what the file gives with what the model gives; return a line to say.

    Raises:
        TrainingError: they differ.
    """
    if importlib.util.find_spec(RUNTIME) is None:
        return [f"not checked: {RUNTIME} is not installed ({INSTALL})"]
    import onnxruntime

    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for count in CHECKED:
        images = torch.rand(count, 3, *description.input_size, generator=generator)
        with torch.no_grad():
            wanted = whole(images).numpy()
        found = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        if found.shape != wanted.shape or not np.isfinite(found).all():
            raise TrainingError(f"{KEY}: the file gives no probabilities; nothing was written")
        largest = max(largest, float(np.abs(found - wanted).max()))
    if largest > TOLERANCE:
        raise TrainingError(
            f"{KEY}: the file's probabilities differ from the model's by {largest:.2g}; nothing "
            f"was written"
        )
    return [f"checked with {RUNTIME}: probabilities differ by {largest:.1g} at most"]

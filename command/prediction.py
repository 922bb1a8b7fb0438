"""Labels for images that the network has never seen, by `model.safetensors` and `model.json` alone.

A file is decoded as the training images were, so the same picture gives the same pixels.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import Split
from data.dataset.decode import Frame, read_image
from data.dataset.picture import UnreadableImage, is_picture
from data.dataset.remarks import ending, one_line
from data.dataset.walk import throw
from data.transform import Chain, Draws
from data.transform.build import before_trigger, build_chain
from model import Network
from model.place import place_network
from run.product import Description
from utils.console import progress, table
from utils.engine import Engine
from utils.errors import InputError
from utils.output import deliver
from utils.paths import refuse_unusable
from utils.streams import Streams

BATCH = 128  # images decoded, and computed, at once; 18 MiB at 224x224
NAMED = 3  # unreadable files that the error names


@dataclass(frozen=True)
class Prediction:
    """What the network says of a file.

    Attributes:
        file: its path, as given or below the folder that was given.
        label: name of the most probable class.
        probability: of that class, 0..1.
    """

    file: str
    label: str
    probability: float


def find_images(paths: Sequence[str], left_out: Counter[str]) -> list[str]:
    """Return the files that are meant: those given, and the images in the folders given, by name.

    Other files in those folders are counted in `left_out`, by their ending.

    Raises:
        InputError: a path leads nowhere, or a folder holds no image.
    """
    files: list[str] = []
    for path in paths:
        refuse_unusable(path, "--predict")
        if not os.path.isdir(path):
            if not os.path.exists(path):
                hint = "; keys are set before --predict" if "=" in path else ""
                raise InputError(f"--predict: there is no file or folder {path!r}{hint}")
            files.append(path)
            continue
        try:
            found = sorted(images_below(path, left_out))
        except OSError as error:
            raise InputError(
                f"--predict: {error.filename!r} cannot be read ({error.strerror})"
            ) from error
        if not found:
            raise InputError(f"--predict: the folder {path!r} holds no images")
        files += found
    return files


def images_below(folder: str, left_out: Counter[str]) -> Iterator[str]:
    """Yield the image files below `folder`; hidden ones and links to folders are left out.

    Other files are counted in `left_out`, by their ending.
    """
    for place, directories, names in os.walk(folder, onerror=throw):
        directories[:] = [name for name in directories if not name.startswith(".")]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if is_picture(path):
                yield os.path.join(place, path.name)
            else:
                left_out[ending(path)] += 1


def decode(files: Sequence[str], frame: Frame) -> Iterator[list[NDArray[np.uint8] | str]]:
    """Yield the images of a batch of files after the other; a text says why one cannot be read.

    While a batch is used, the next one is decoded.
    """

    def attempt(file: str) -> NDArray[np.uint8] | str:
        try:
            return read_image(Path(file), frame)
        except UnreadableImage as error:
            return one_line(str(error))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large and of oddly written files
        ahead = pool.map(attempt, files[:BATCH])
        for start in range(0, len(files), BATCH):
            ready, ahead = ahead, pool.map(attempt, files[start + BATCH : start + 2 * BATCH])
            yield list(ready)


class Predictor:
    """A trained network with all that a file goes through before it.

    Args:
        network: in eval mode.
        description: of it.
        device: where it computes, in fp32.
        count: of images at most, for which a test chain with random steps draws.
    """

    def __init__(
        self, network: Network, description: Description, device: torch.device, count: int
    ) -> None:
        self.network, self.device = place_network(network, Engine(device)), device
        self.description = description
        self.count, self.done = count, 0
        self.chain: Chain | None = None
        self.draws: Draws | None = None

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class, (n, K) float32 on the CPU.

        Args:
            images: (n, H, W, 3) uint8, as decoded; the next n of all.
        """
        transform = self.description.transform
        images = before_trigger(Split(images, torch.zeros(len(images))), transform).images
        if self.chain is None or self.draws is None:
            self.chain = build_chain("test", transform.test, *images.shape[1:3])
            self.draws = self.chain.draw(self.count, Streams(0).torch("test"))
        own = slice(self.done, self.done + len(images))
        self.done += len(images)
        index = torch.arange(len(images), device=self.device)
        draws = self.draws[own].to(self.device)
        logits: Tensor = self.network(self.chain.view(images.to(self.device), index, draws))
        found = logits.float().softmax(dim=1).cpu()
        if not bool(found.isfinite().all()):
            raise InputError("--predict: the model's answers are not finite, so they say nothing")
        return found

    def predict(
        self, files: Sequence[str], images: Sequence[NDArray[np.uint8]]
    ) -> list[Prediction]:
        """Return what the network says of images (H, W, 3), the contents of `files`."""
        if not files:
            return []
        best = self.probabilities(torch.from_numpy(np.stack(images))).max(dim=1)
        labels = [self.description.classes[label] for label in best.indices.tolist()]
        return [Prediction(*row) for row in zip(files, labels, best.values.tolist(), strict=True)]


def predict_files(
    files: Sequence[str], network: Network, description: Description, device: torch.device
) -> tuple[list[Prediction], list[tuple[str, str]]]:
    """Return a prediction for each readable file, in order; and the others, with the reasons."""
    predictor = Predictor(network, description, device, len(files))
    predictions: list[Prediction] = []
    unreadable: list[tuple[str, str]] = []
    starts = range(0, len(files), BATCH)
    batches = decode(files, description.frame.frame())
    for start, batch in zip(progress(starts, "predict", unit="batch"), batches, strict=True):
        names, images = [], []
        for file, image in zip(files[start : start + BATCH], batch, strict=True):
            if isinstance(image, str):
                unreadable.append((file, image))
            else:
                names.append(file)
                images.append(image)
        predictions += predictor.predict(names, images)
    return predictions, unreadable


def refuse_unreadable(unreadable: Sequence[tuple[str, str]], count: int) -> None:
    """Raise `InputError` if some of `count` files could not be read; the others are printed."""
    if unreadable:
        (file, reason), *others = unreadable
        more = "".join(f", {Path(other).name!r}" for other, _ in others[: NAMED - 1])
        more += ", ..." if len(unreadable) > NAMED else ""
        raise InputError(
            f"--predict: {len(unreadable)} of {count} images cannot be read and have no label: "
            f"{file!r} ({reason}){more}"
        )


def as_table(predictions: Sequence[Prediction]) -> str:
    """Return predictions for people."""
    rows = [(item.file, item.label, f"{item.probability:.4f}") for item in predictions]
    return table(rows, headers=("file", "label", "probability"))


def as_json(predictions: Sequence[Prediction]) -> str:
    """Return predictions for programs; ASCII, so that any name of a file survives."""
    return json.dumps([asdict(item) for item in predictions], indent=2, allow_nan=False)


def print_whole(text: str) -> None:
    """Print `text` in UTF-8, whatever the terminal has; a reader may close the pipe early."""
    deliver(sys.stdout, lambda file: file.buffer.write(os.fsencode(text + "\n")))

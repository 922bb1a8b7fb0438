"""cleanlab: `pred_probs.npy` and `given_labels.npy`, beside the columns in `suspects.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data.formats.format import Format, Listing
from utils.files import write_atomically

PROBABILITIES, LABELS = "pred_probs.npy", "given_labels.npy"


class Cleanlab(Format):
    """(N, K) probabilities of the classes and (N,) given labels, in the order of the samples."""

    needs_probabilities: ClassVar[bool] = True
    leaves = (PROBABILITIES, LABELS)
    names_files: ClassVar[bool] = False

    def write(self, listing: Listing, folder: Path) -> list[str]:
        """Write both arrays; return a line."""
        assert listing.probabilities is not None
        save(folder / PROBABILITIES, listing.probabilities.float().numpy())
        save(folder / LABELS, listing.training.labels.cpu().numpy())
        return [f"for cleanlab: {folder / PROBABILITIES}, in the order of `index`"]


def save(path: Path, array: NDArray[Any]) -> None:
    """Write an array, whole or not at all."""
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))

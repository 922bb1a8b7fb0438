"""Somebody else's model: a file of class probabilities, of CLIP, of cleanlab, of whatever.

Such a model has never seen the trigger, so it says what an image shows. Its probabilities are
held against the verified samples, which it may know less well than it thinks: a sample is vetoed
where the outside model finds the given label less likely than it does for nearly all of these.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from data.poison import TrainingSet
from utils.arrays import read_npy
from utils.contents import Opened
from utils.errors import InputError
from utils.files import find_file
from utils.section import Section
from witness.witness import Case, Statement, Witness, deviations

FLOOR = 1e-6  # of a probability
FEWEST_VERIFIED = 20


class OutsideProbabilities(Witness):
    """Vetoes labels that an outside model finds unlikely."""

    class Settings(Section):
        """Where the probabilities are.

        `file`: an .npy of (N, C) floating-point numbers in the order of the training set and of
        the classes. `quantile`: share of the verified samples that may be as unlikely as what is
        vetoed.
        """

        file: Annotated[str, Opened()]
        quantile: float = Field(default=0.01, ge=0, le=0.5)

    settings: OutsideProbabilities.Settings

    @classmethod
    def check(cls, settings: Section, training: TrainingSet) -> None:
        """Read the table once, so that a wrong one stops the run before it begins."""
        assert isinstance(settings, cls.Settings)
        read_table(settings.file, len(training), training.num_classes)

    def testify(self, case: Case) -> Statement:
        """Compare each given label's probability with those of the verified samples."""
        limits = self.settings
        table = read_table(limits.file, len(case.labels), case.num_classes)
        surprise = -table.gather(1, case.labels[:, None])[:, 0].clamp_min(FLOOR).log()
        vetoed = torch.zeros(len(surprise), dtype=torch.bool)
        if len(case.seeds) >= FEWEST_VERIFIED:
            limit = surprise[case.seeds].quantile(1 - limits.quantile)
            other = table.argmax(dim=1) != case.labels
            vetoed = (surprise > limit) & other & ~case.verified
        return Statement(deviations(surprise), vetoed)


def read_table(name: str, count: int, num_classes: int) -> Tensor:
    """Return the probabilities (N, C), float64, each row with sum 1.

    Raises:
        InputError: the file is not there, no such table, or of another size.
    """
    path = find_file(name, "witness.heard.probabilities.file")
    table = read_npy(path, f"{path}: no .npy of numbers")
    if table.shape != (count, num_classes):
        raise InputError(
            f"{path}: {table.shape}, but there are {count} training samples of {num_classes} "
            f"classes"
        )
    if table.dtype.kind != "f" or not np.isfinite(table).all() or float(table.min()) < 0:
        raise InputError(f"{path}: probabilities are numbers from 0 on; give softmax, not logits")
    values = torch.from_numpy(table.astype(np.float64))
    return values / values.sum(dim=1, keepdim=True).clamp_min(FLOOR)

"""All that a run has found out about each training sample, gathered once for every kind of report.

Everything but `poisoned` is what a defender may know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from data.poison import TrainingSet
from data.transform import Chain
from defense.history import History
from report.lost import lost_classes
from report.seeds import doubtful
from training.passes import Pass, answers
from utils.engine import Engine
from utils.errors import InputError
from utils.streams import Streams
from witness.hearing import NOBODY, Testimony


@dataclass(frozen=True)
class Opinion:
    """What a model says of N samples, seen plainly; all on the CPU.

    Attributes:
        predicted: (N,) int64, its own label.
        probability: (N,) float32, that it gives to its own label.
        given: (N,) float32, that it gives to the sample's given label.
        probabilities: (N, K) float32, of all classes; None unless they are asked for.
    """

    predicted: Tensor
    probability: Tensor
    given: Tensor
    probabilities: Tensor | None = None


# Of the samples from which a run starts: somebody vouches for them; the witnesses chose them; or
# they were drawn, and may be poisoned.
Origin = Literal["verified", "chosen", "drawn"]
SEEDS_ARE: dict[Origin, str] = {
    "verified": "verified samples",
    "chosen": "samples that the witnesses chose",
    "drawn": "unchecked samples that were drawn",
}


@dataclass(frozen=True)
class Findings:
    """What is known of the N training samples at the end of a run; all on the CPU.

    Attributes:
        training: images and given labels as the defender had them.
        opinion: of the model as it is now.
        history: what the splits said.
        seeds: (n,) int64, the verified samples.
        contradiction: (N,) float64, how unlikely the model finds each given label.
        score: (N,) float32 in 0..1, high is suspicious.
        kept: (N,) bool, the samples that may be kept.
        poisoned: (N,) bool, the truth; None where nobody knows it.
        testimony: of witnesses beside the model.
        origin: of the seeds.
        rejected: indices of the samples that a person calls poisoned.
    """

    training: TrainingSet
    opinion: Opinion
    history: History
    seeds: Tensor
    contradiction: Tensor
    score: Tensor
    kept: Tensor
    poisoned: Tensor | None
    testimony: Testimony = NOBODY
    origin: Origin = "verified"
    rejected: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.training)

    @cached_property
    def order(self) -> Tensor:
        """(N,) int64, indices of the samples, the most suspicious first.

        Of equal scores the sample that is contradicted more comes first, then the one whose file's
        name does, so that the order is not that of the samples in the set.
        """
        files = self.training.files
        return from_the_worst(self.score, self.contradiction, None if files is None else self.name)

    @property
    def reduction(self) -> Tensor | None:
        """(N,) float32, mean loss reduction of the last meta-splits; None without one."""
        kept = self.history.reductions
        return torch.stack(kept).mean(dim=0) if kept else None

    @property
    def doubtful_seeds(self) -> list[int]:
        """Verified samples that the model does not believe, the least believed first."""
        loss = -self.opinion.given.clamp_min(1e-12).log()
        labels, classes = self.training.labels.cpu(), self.training.num_classes
        return doubtful(loss, labels, self.seeds, classes).tolist()

    @property
    def lost_classes(self) -> list[int]:
        """Classes that the run has lost, although the data have them."""
        labels, predicted = self.training.labels.cpu(), self.opinion.predicted
        return lost_classes(labels[self.seeds], predicted[self.seeds], self.training.num_classes)

    def name(self, index: int) -> str:
        """Return the sample's file relative to the data set's folder, or its number."""
        return self.training.name(index)


def from_the_worst(
    score: Tensor, contradiction: Tensor, name: Callable[[int], str] | None
) -> Tensor:
    """Return (N,) int64, indices of the samples, the highest score first.

    Args:
        score: (N,) float.
        contradiction: (N,) float, high comes first among equal scores.
        name: of the sample with an index, decides between those that are still equal; where there
            is none, the index does.
    """
    keys = [-contradiction.numpy(), -score.numpy()]
    order = np.lexsort(keys)
    if name is None:
        return torch.from_numpy(order)
    first = [order[1:], order[:-1]]
    same = np.logical_and.reduce([key[first[0]] == key[first[1]] for key in keys])
    starts = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for start, end in starts.reshape(-1, 2).tolist():  # of each run of equals
        order[start : end + 1] = sorted(order[start : end + 1].tolist(), key=name)
    return torch.from_numpy(order)


@torch.no_grad()
def ask(
    network: nn.Module,
    training: TrainingSet,
    chain: Chain,
    engine: Engine,
    batch_size: int,
    all_classes: bool = False,
) -> Opinion:
    """Return what `network` says of all training samples through the views of a test.

    `all_classes`: keep the probabilities of all classes, too.
    """
    count, device = len(training), engine.device
    found = torch.zeros(3, count, device=device)
    # Several processes exchange what is on the device; one alone need not hold it there.
    place = device if engine.world.size > 1 else torch.device("cpu")
    width = training.num_classes if all_classes else 0
    whole = torch.zeros(count, width, device=place)
    stream = Streams(0).torch("test")
    way = Pass(chain, engine, batch_size, "ask")
    for part, logits in answers(network, training, way, stream):
        probabilities = logits.float().softmax(dim=1)
        best = probabilities.max(dim=1)
        given = probabilities.gather(1, training.labels[part, None])[:, 0]
        found[:, part] = torch.stack([best.indices.float(), best.values, given])
        whole[part] = probabilities[:, :width].to(place)
    if engine.world.any(not bool(found.isfinite().all())):
        raise InputError("the model's answers are not finite, so it says nothing of the data")
    own = engine.world.share(count)
    predicted, probability, given = (engine.world.gather(row[own], count).cpu() for row in found)
    everything = engine.world.gather(whole[own], count).cpu() if all_classes else None
    return Opinion(predicted.long(), probability, given, everything)

"""The part that knows the truth: ACC, ASR and the quality of the pools.

Nothing here flows back into a defence. Samples are counted; batches are never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.dataset import Split
from data.poison import Truth
from data.transform import Chain
from defense import Pools
from training.passes import Pass, outputs
from utils.device import send
from utils.engine import Engine
from utils.streams import Streams


@dataclass(frozen=True)
class PoolQuality:
    """How well the polluted pool holds the poison.

    Attributes:
        clean_pool: samples in the clean pool.
        poisoned_in_clean_pool: poisoned ones among them.
        tpr: share of the poisoned samples that are in the polluted pool; None without poison.
        fpr: share of the clean samples that are in the polluted pool.
        auroc: of the score by which the pools were divided; None without poison or score.
    """

    clean_pool: int
    poisoned_in_clean_pool: int
    tpr: float | None
    fpr: float
    auroc: float | None


def pool_quality(pools: Pools, truth: Truth) -> PoolQuality:
    """Compare the pools with the truth. Cross samples count as clean: their labels are right."""
    clean, poisoned = pools.clean.cpu(), truth.poisoned
    num_poisoned, num_benign = int(poisoned.sum()), int((~poisoned).sum())
    missed = int((clean & poisoned).sum())
    auroc = None
    if pools.score is not None and num_poisoned and num_benign:
        auroc = auroc_of(pools.score.cpu(), poisoned)
    return PoolQuality(
        int(clean.sum()),
        missed,
        (num_poisoned - missed) / num_poisoned if num_poisoned else None,
        int((~clean & ~poisoned).sum()) / max(num_benign, 1),
        auroc,
    )


def auroc_of(score: Tensor, poisoned: Tensor) -> float:
    """Return how well `score` (N,) ranks the `poisoned` (N,) bool first: 1 is perfect, 0.5 luck."""
    from sklearn.metrics import roc_auc_score  # here, since it takes seconds

    return float(roc_auc_score(poisoned.numpy(), score.numpy()))


def predictions(
    network: nn.Module, images: Tensor, chain: Chain, engine: Engine, batch_size: int
) -> Tensor:
    """Return the predicted classes (N,) int64, on the CPU, of `images` (N, H, W, 3) uint8."""

    def feeding(parts: Sequence[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        for part in parts:
            batch = send(images[part], engine.device)
            yield batch, torch.arange(len(batch), device=engine.device)

    way, stream = Pass(chain, engine, batch_size, "test"), Streams(0).torch("test")
    predicted = [torch.empty(0, dtype=torch.int64, device=engine.device)]
    for _, logits in outputs(network, feeding, len(images), way, stream):
        predicted.append(logits.argmax(dim=1))
    return engine.world.gather(torch.cat(predicted), len(images)).cpu()


@dataclass(frozen=True)
class Score:
    """What a model is worth; fractions of 1, None where not measured (ASR without an attack).

    Attributes:
        acc: over all clean test images.
        asr: over the triggered ones of other classes than the target.
        recalls: of each class, over the clean test images that show it; a lost class is 0. Empty
            where ACC is not measured.
    """

    acc: float | None
    asr: float | None
    recalls: tuple[float | None, ...] = ()


def tested_images(truth: Truth) -> int:
    """Return how many images a test looks at."""
    triggered = truth.triggered_test
    return len(truth.clean_test) + (0 if triggered is None else len(triggered))


def evaluate(
    network: nn.Module, truth: Truth, chain: Chain, engine: Engine, batch_size: int
) -> Score:
    """Return ACC over all clean test images and ASR over the triggered non-target ones."""

    def right(split: Split) -> Tensor:
        return predictions(network, split.images, chain, engine, batch_size) == split.labels

    def share(given: Tensor) -> float | None:
        return int(given.sum()) / len(given) if len(given) else None

    clean, triggered = truth.clean_test, truth.triggered_test
    known = right(clean)
    classes = range(int(clean.labels.max()) + 1 if len(clean) else 0)
    recalls = tuple(share(known[clean.labels == label]) for label in classes)
    return Score(share(known), None if triggered is None else share(right(triggered)), recalls)


def ranking_quality(score: Tensor, poisoned: Tensor | None) -> dict[str, float]:
    """Return how well the suspects' ranking finds the poison, for `result.json`.

    Args:
        score: (N,) float, high is suspicious.
        poisoned: (N,) bool, the truth; None where nobody knows it.

    Returns:
        `suspects_auroc`, and `suspects_precision`: the share of poisoned samples among the first of
        the list, as many as are poisoned; of equal scores at the end of these a part counts. Empty
        without poison.
    """
    if poisoned is None or not bool(poisoned.any()):
        return {}
    wanted = int(poisoned.sum())
    last = score.sort(descending=True).values[wanted - 1]
    above, level = score > last, score == last
    part = (wanted - int(above.sum())) / int(level.sum())
    hits = int(poisoned[above].sum()) + part * int(poisoned[level].sum())
    return {
        "suspects_auroc": auroc_of(score, poisoned),
        "suspects_precision": hits / wanted,
    }


def veto_quality(vetoed: Tensor, poisoned: Tensor | None) -> dict[str, int]:
    """Return how many of the `vetoed` (N,) bool are poisoned, and how many of the others are.

    Args:
        vetoed: by a witness.
        poisoned: (N,) bool, the truth; None where nobody knows it.

    Returns:
        `vetoed_poisoned` and `missed_poisoned`; empty without the truth.
    """
    if poisoned is None:
        return {}
    return {
        "vetoed_poisoned": int((vetoed & poisoned).sum()),
        "missed_poisoned": int((~vetoed & poisoned).sum()),
    }

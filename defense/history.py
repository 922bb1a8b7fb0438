"""What the splits say of each sample in the course of a run.

A split is gone with its epoch; what it said is kept here, for the list of suspects at the end. The
defence itself never reads it, and nothing in it is the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from defense.defense import Pools

KEPT_REDUCTIONS = 5  # of a sample: a mean of several is steadier than one
MOST_EPOCHS = torch.iinfo(torch.int16).max


@dataclass
class History:
    """A run's memory of its splits; plain tensors on the CPU, so that a checkpoint can hold it.

    Attributes:
        epochs: that had pools so far.
        polluted: (N,) int16, epochs that each sample spent in the polluted pool; None before the
            first split, and for a method that does not split.
        losses: for each stage, by name and in order, (N,) float32: the losses of its last split.
        reductions: (N,) float32 each, by how much a virtual model's losses were lower in the last
            meta-splits, the latest at the end.
    """

    epochs: int = 0
    polluted: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    reductions: list[Tensor] = field(default_factory=list)

    def note(self, stage: str, pools: Pools) -> None:
        """Add the pools with which an epoch of `stage` starts; those that are kept count, too."""
        if pools.score is None and not pools.kept:
            return
        polluted = (~pools.clean).cpu().to(torch.int16)
        if self.polluted is None:
            self.polluted = torch.zeros_like(polluted)
        self.polluted += polluted
        self.polluted.clamp_max_(MOST_EPOCHS - 1)
        self.epochs += 1
        if pools.loss is not None:
            self.losses[stage] = pools.loss.float().cpu()
        if pools.reduction is not None:
            self.reductions.append(pools.reduction.float().cpu())
            del self.reductions[:-KEPT_REDUCTIONS]

"""A moving average of a network in training: its weights, and the statistics of its BatchNorm."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from model import Network

WARM_UP = 10  # updates: early on the average follows fast, so that it never holds the first weights


def decay_at(update: int, decay: float) -> float:
    """Return what the average keeps of itself at its 0-based `update`, at most `decay`."""
    return min(decay, (1 + update) / (WARM_UP + update))


class Average:
    """A network that follows another one slowly; in eval mode, without gradient.

    The parameters alone would not do: BatchNorm normalises by statistics of the layers before it,
    and those of the trained network do not fit averaged weights.

    Args:
        network: to follow, on its device; the average starts as its copy.
        decay: 0..1, what the average keeps of itself at each update.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.decay, self.updates = decay, 0
        self._pairs = self._pair(network)

    def _pair(self, network: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Any]]:
        """Return averaged tensors, what they follow, and pairs of whole numbers to copy."""
        own, followed, counts = [], [], []
        theirs = network.state_dict(keep_vars=True)
        for name, value in self.network.state_dict(keep_vars=True).items():
            if value.is_floating_point():
                own.append(value)
                followed.append(theirs[name])
            else:
                counts.append((value, theirs[name]))
        return own, followed, counts

    @torch.no_grad()
    def update(self) -> None:
        """Move one step towards the network as it is."""
        own, followed, counts = self._pairs
        torch._foreach_lerp_(own, followed, 1 - decay_at(self.updates, self.decay))
        for value, theirs in counts:
            value.copy_(theirs)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.updates = int(state["updates"])
        self.network.load_state_dict(state["network"])

"""Which vetoed samples are seen without their label, and which are not seen at all.

A vetoed sample loses its label, but MixMatch guesses a new one for it. Where the label was wrong
(BadNets), that teaches what the image shows in spite of its trigger, and undoes the backdoor: a
model that never sees a trigger may take it for anything. Where all images with the trigger show the
target class (clean-label poison), the guess is the vetoed label, and even so teaches the trigger.
Nobody knows which kind it is, but the model in training says so of each sample: whoever is guessed
to be what the witnesses deny is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from defense.restored import checked_flags
from witness.settings import VetoedUse


class Exclusion:
    """Says which vetoed samples an epoch does not draw.

    Args:
        use: `witness.vetoed`. `unlabelled`: all are seen without their label; `left_out`: none is;
            `contradicted`: those are whose vetoed label the model in training contradicts.
        count: number of samples.
    """

    def __init__(self, use: VetoedUse, count: int) -> None:
        self.use, self.count = use, count
        self.agrees: Tensor | None = None  # (N,) bool, in the last split

    def note(self, agrees: Tensor) -> None:
        """Keep whether the model gives each sample's label by itself, (N,) bool, at a split."""
        if self.use == "contradicted":
            self.agrees = agrees

    def left_out(self, vetoed: Tensor) -> Tensor | None:
        """Return (N,) bool, what is not drawn; None: all is.

        Args:
            vetoed: (N,) bool, or (0,) where nobody is heard.
        """
        if self.use == "unlabelled" or not bool(vetoed.any()):
            return None
        return vetoed if self.agrees is None else vetoed & self.agrees

    def state_dict(self) -> dict[str, Tensor]:
        """Return what an interrupted epoch needs."""
        return {} if self.agrees is None else {"agrees": self.agrees}

    def load_state_dict(self, state: dict[str, object], device: torch.device) -> None:
        """Go back to a state that `state_dict` gave.

        Raises:
            ValueError: it holds something else.
        """
        if "agrees" in state:
            self.agrees = checked_flags("agrees", state["agrees"], self.count).to(device)

"""Witnesses by name: independent opinions on single samples.

To add one: a file with a subclass of `Witness`, and a line in `WITNESSES`.
"""

from utils.registry import Registry
from witness.witness import Case, Statement, Witness

WITNESSES: Registry[Witness] = Registry(
    "witness",
    {
        "unverified_group": "witness.unverified_group:UnverifiedGroup",
        "contradicted_group": "witness.contradicted_group:ContradictedGroup",
        "reference_loss": "witness.reference_loss:ReferenceLoss",
        "pipd": "witness.pipd:PoisonChannels",
        "scaled": "witness.scaled:ScaledPrediction",
        "pattern": "witness.pattern:StaticPattern",
        "rare_pattern": "witness.rare_pattern:RarePattern",
        "filtered": "witness.filtered:FilteredPrediction",
        "patch": "witness.patch:PastedPatch",
        "batch_norm": "witness.batch_norm:AmplifiedNorm",
        "confusion": "witness.confusion:ConfusionTraining",
        "persistence": "witness.persistence:MixingPersistence",
        "spectral": "witness.spectral:SpectralScore",
        "virtual_victim": "witness.virtual_victim:VirtualVictim",
        "probabilities": "witness.probabilities:OutsideProbabilities",
    },
)

__all__ = ["WITNESSES", "Case", "Statement", "Witness"]

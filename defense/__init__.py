"""Methods by name. To add one: a file with a subclass of `Defense`, and a line in `DEFENSES`."""

from defense.defense import Defense, Knowledge, Pools, Setting
from utils.registry import Registry

DEFENSES: Registry[Defense] = Registry(
    "defense",
    {
        "abl": "defense.abl:AntiBackdoorLearning",
        "asd": "defense.asd:AdaptiveSplitting",
        "dbd": "defense.dbd:Decoupling",
        "none": "defense.none:NoDefense",
    },
)

__all__ = ["DEFENSES", "Defense", "Knowledge", "Pools", "Setting"]

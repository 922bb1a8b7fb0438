"""Attacks by name. To add one: a file with a subclass of `Attack`, and a line in `ATTACKS`."""

from data.attack.attack import Attack, LabelRule, Scene
from utils.registry import Registry

ATTACKS: Registry[Attack] = Registry(
    "attack",
    {
        "badnets": "data.attack.badnets:BadNets",
        "clb": "data.attack.clb:Clb",
        "iab": "data.attack.iab:Iab",
        "refool": "data.attack.refool:Refool",
    },
)

__all__ = ["ATTACKS", "Attack", "LabelRule", "Scene"]

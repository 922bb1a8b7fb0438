"""Attacks by name. To add one: a file with a subclass of `Attack`, and a line in `ATTACKS`."""

from data.attack.attack import Attack, LabelRule, Scene
from utils.registry import Registry

ATTACKS: Registry[Attack] = Registry(
    "attack",
    {
        "adaptive_blend": "data.attack.adaptive_blend:AdaptiveBlend",
        "badnets": "data.attack.badnets:BadNets",
        "blend": "data.attack.blend:Blend",
        "bpp": "data.attack.bpp:Bpp",
        "clb": "data.attack.clb:Clb",
        "iab": "data.attack.iab:Iab",
        "refool": "data.attack.refool:Refool",
        "sig": "data.attack.sig:Sig",
        "wanet": "data.attack.wanet:WaNet",
    },
)

__all__ = ["ATTACKS", "Attack", "LabelRule", "Scene"]

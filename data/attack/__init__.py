"""Attacks by name. To add one: a file with a subclass of `Attack`, and a line in `ATTACKS`."""

from data.attack.attack import Attack, AttackContext, LabelRule
from utils.registry import Registry

ATTACKS: Registry[Attack] = Registry(
    "attack",
    {
        "adaptive_blend": "data.attack.adaptive_blend:AdaptiveBlend",
        "adaptive_patch": "data.attack.adaptive_patch:AdaptivePatch",
        "badnets": "data.attack.badnets:BadNets",
        "blend": "data.attack.blend:Blend",
        "bpp": "data.attack.bpp:Bpp",
        "clb": "data.attack.clb:Clb",
        "flip": "data.attack.flip:Flip",
        "gcb": "data.attack.gcb:Gcb",
        "iab": "data.attack.iab:Iab",
        "label_noise": "data.attack.label_noise:LabelNoise",
        "natural_feature": "data.attack.natural_feature:NaturalFeature",
        "refool": "data.attack.refool:Refool",
        "sig": "data.attack.sig:Sig",
        "wanet": "data.attack.wanet:WaNet",
    },
)

__all__ = ["ATTACKS", "Attack", "AttackContext", "LabelRule"]

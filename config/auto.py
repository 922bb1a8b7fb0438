"""The value `auto`: sizes and schedule fitted to the data and the device, before validation.

`global.seed_num: auto`, `global.epsilon: auto` and those of `speed` are no part of this; they are
settled where they are read. All other keys that may be `auto` are in `RULES`, in the order in which
they are settled: a later one sees what was chosen, or given, before it. The rules hit three
schedules that are known to work: `config/digits.yaml` (1,437 images of 16x16),
`config/cifar10_small.yaml` (10,000 of 32x32) and, on a CPU, `config/laptop/badnets.yaml` (50,000).
Between two of them a number grows as a power of the number of samples; below the first and beyond
the last it stays. Rules look at the kind of device and not at its speed, so that all machines of a
kind make the same run of the same data.

- network: fastnet, 32 channels wide on a CPU (24 up to 20 pixels, 48 from 25,000 samples on) and
  64 on a GPU; torchvision's ResNet-18 on a GPU above 64 pixels. `network: pretrained` takes one
  that starts from weights of ImageNet, where these are in a cache or can be downloaded, the images
  have at least 32 pixels, and, on a CPU, there are at most 10,000; else the same as `auto`.
- image size: the median of the images' shorter sides, to the next multiple of 4, from 16 to 224; on
  a CPU at most 64, and less where the set would have more than 10 million pixels, but not below 32.
  For weights of ImageNet 96 on a CPU, 128 to 224 on a GPU: they know no smaller objects.
- batch of MixMatch: 64; on a CPU 32 above 40 pixels, where a step of 64 would take too long.
- epochs: 20, 30, 24. Stage 1 ends after 8, 8, 6 of them, in each of which 0.06 to 0.05 of a class
  join. Stage 2 goes on to the end: small sets make models whose meta-split lets poison in.
- steps an epoch: so many that MixMatch draws 2,048, 6,400, 25,024 labelled samples. On a CPU they
  grow beyond 50,000 samples with the square root.
- average of the weights: 0.98 to 0.998. Learning rate: Adam's 0.002, or 0.005 for fastnet and 4,000
  samples; it rises for an epoch, is held for 0.4 to 0.3 of the steps, and falls to 0.
- a start from weights of ImageNet knows much already: 12 epochs (of 1,024 samples on a CPU), 5 of
  them in stage 1; Adam with a quarter of the rate.
- crop: a window of the image's size, from an image with an eighth of it added at each side.
- for settings of one's own with the paper's stages: `global.t` and `global.n` such that stage 1
  ends with about a sixth of the smallest class, 10 at most at a time; `meta.epoch` such that the
  virtual model sees about 11,500 samples, or takes 360 steps; `lr_scheduler` a cosine.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from config.draft import Draft
from config.rules import PRETRAINED, RULES
from data.survey import Facts

AUTO = "auto"
WANTED = ("network", PRETRAINED)
# Stands in where a configuration is only checked, and nobody has looked at the data yet.
TYPICAL = Facts(samples=10_000, smallest_class=1000, side=32)
MAY_BE_NOTHING = ("data.image_size", "lr_scheduler")  # then written settings do not hold them


def open_keys(merged: dict[str, Any]) -> list[str]:
    """Return the keys that are left to `auto`, or to what is to be had."""
    draft = Draft(merged, TYPICAL)
    return [key for key in RULES if draft.get(key) == AUTO or (key, draft.get(key)) == WANTED]


def covers(earlier: Mapping[str, Any] | None, keys: Sequence[str]) -> bool:
    """Return whether the settings of an earlier run tell what was chosen for all of `keys`."""
    before = Draft(dict(earlier or {}), TYPICAL)
    told = earlier is not None
    return all(before.get(key) is not None or (told and key in MAY_BE_NOTHING) for key in keys)


def settle(
    merged: dict[str, Any], facts: Facts, earlier: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings without `auto`, and lines to say.

    Args:
        merged: nested settings; left as they are.
        facts: about data and device.
        earlier: settings of the run that goes on, which keeps what was chosen for it.
    """
    draft = Draft(copy.deepcopy(merged), facts)
    before = Draft(dict(earlier or {}), facts)
    lines = []
    for key in open_keys(merged):
        value, why = before.get(key), "as before"
        if not covers(earlier, [key]):
            value, why = RULES[key](draft)
        draft.set(key, value)
        if value is not None:
            lines.append(f"auto: {key}: {readable(value)} ({why})")
    return draft.merged, lines


def readable(value: Any) -> str:
    """Return a value in one line, sections with their settings in brackets."""
    if not isinstance(value, dict):
        return str(value)
    parts = (f"{key}: {readable(inner)}" for key, inner in value.items() if inner is not None)
    return f"{{{', '.join(parts)}}}"

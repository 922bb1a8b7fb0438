"""The value `auto`: sizes and schedule fitted to the data and the device, before validation.

`global.seed_num: auto` and those of `speed` are no part of this; they are settled where they are
read. All other keys that may be `auto` are in `RULES`, in the order in which they are settled: a
later one sees what was chosen, or given, before it. On a CPU the rules hit two schedules that are
known to work with the split by cross entropy: `tests/config/digits.yaml` (1,437 images of 16x16,
90 s on two cores) and `tests/config/cifar10_small.yaml` (10,000 of 32x32, 16 minutes); on a GPU
they lead from the first to the paper's (50,000 of 32x32). Between two of them a number grows as a
power of the number of samples; below the first and beyond the last it stays. Rules look at the kind
of device and not at its speed, so that all machines of a kind make the same run of the same data.

- network: ResNet-18 for small images, 16 channels wide on a CPU and 64 on a GPU; torchvision's
  ResNet-18 on a GPU above 64 pixels. `network: pretrained` takes one that starts from weights of
  ImageNet, where these are in a cache or can be downloaded, the images have at least 32 pixels,
  and, on a CPU, there are at most 10,000; else the same as `auto`.
- image size: the median of the images' shorter sides, to the next multiple of 4, from 16 to 224; on
  a CPU at most 64, and less where the set would have more than 10 million pixels, but not below 32.
  For weights of ImageNet 96 on a CPU, 128 to 224 on a GPU: they know no smaller objects.
- batch of MixMatch: 64; on a CPU 32 above 24 pixels, where a step of 64 would take too long.
- epochs: 26 (digits), 50 (10,000 on a CPU), 120 (the paper). Stage 1 ends after 12 of them on a CPU
  and after up to 60 on a GPU, stage 2 after three quarters.
- steps an epoch: so many that MixMatch draws 2,048 labelled samples (digits), 5,120 (10,000 on a
  CPU), 65,536 (the paper). On a CPU they grow beyond 10,000 samples with the square root.
- `t`, `n`: every 2 epochs (the paper's set: 5) so many join that stage 1 ends with about a sixth of
  the smallest class, 10 at most at a time, as in the paper.
- virtual model: batches of 32 below 4,000 samples, else 128; so many epochs that it sees about
  11,500 samples, or takes 360 steps, and at least one. With half of that it learnt the trigger of
  digits in some runs and in others not, and then the meta-split lets poison in.
- learning rate: falls to 0 as a cosine on a CPU from 4,000 samples on, else constant.
- a start from weights of ImageNet knows much already: 16 epochs of 1,024 labelled samples on a CPU
  (30 on a GPU), stage 1 for three eighths of them; Adam with a quarter of the rate, which falls to
  0 as a cosine; a virtual model that sees 4,000 samples.
- crop: a window of the image's size, from an image with an eighth of it added at each side.
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

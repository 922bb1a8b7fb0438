"""The value `auto`: sizes and schedule fitted to the data and the device, before validation.

`global.seed_num: auto` and those of `speed` are no part of this; they are settled where they are
read. All other keys that may be `auto` are in `RULES`, in the order in which they are settled: a
later one sees what was chosen, or given, before it. On a CPU the rules hit two schedules that are
known to work with the split by cross entropy: `tests/config/digits.yaml` (1,437 images of 16x16,
90 s on two cores) and `tests/config/cifar10_small.yaml` (10,000 of 32x32, 16 minutes); on a GPU
they lead from the first to the paper's (50,000 of 32x32). Between two of them a number grows as a
power of the number of samples; below the first and beyond the last it stays. Rules look at the kind
of device and not at its speed, so that all machines of a kind make the same run of the same data.

- image size: the median of the images' shorter sides, to the next multiple of 4, from 16 to 224; on
  a CPU at most 64, and less where the set would have more than 10 million pixels, but not below 32.
- network: ResNet-18 for small images, 16 channels wide on a CPU and 64 on a GPU; torchvision's
  ResNet-18 on a GPU above 64 pixels.
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
- crop: a window of the image's size, from an image with an eighth of it added at each side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from config.draft import Draft
from data.survey import Facts

AUTO = "auto"

# (training samples, value) between which a number is interpolated.
Anchors = Sequence[tuple[int, float]]
DIGITS, SMALL, PAPER = 1437, 10_000, 50_000  # training samples
EPOCHS: dict[bool, Anchors] = {
    False: ((DIGITS, 26), (SMALL, 50)),
    True: ((DIGITS, 26), (PAPER, 120)),
}
DRAWN: dict[bool, Anchors] = {  # labelled samples that MixMatch draws in an epoch
    False: ((DIGITS, 2048), (SMALL, 5120)),
    True: ((DIGITS, 2048), (PAPER, 65_536)),
}
STAGE_1: dict[bool, Anchors] = {
    False: ((DIGITS, 12), (SMALL, 12)),
    True: ((DIGITS, 12), (PAPER, 60)),
}
INTERVAL: dict[bool, Anchors] = {False: ((DIGITS, 2), (SMALL, 2)), True: ((DIGITS, 2), (PAPER, 5))}

SMALLEST_SIDE, LARGEST_SIDE, SIDE_STEP = 16, 224, 4  # pixels
CPU_SIDES = 32, 64  # pixels: what may be left of large images on a CPU
CPU_PIXELS = SMALL * 32**2  # of a whole training set
SMALL_NETWORK_SIDE = 64  # pixels, up to which the network for small images is taken
STAGE_2_SHARE = 0.75  # of the epochs
JOINED_SHARE = 0.18  # of the smallest class, that joins the seeds in stage 1
MOST_JOINED = 10  # of a class at a time
VIRTUAL_SAMPLES, VIRTUAL_STEPS = 11_500, 360
FEW_SAMPLES = 4000


# Stands in where a configuration is only checked, and nobody has looked at the data yet.
TYPICAL = Facts(samples=SMALL, smallest_class=SMALL // 10, side=32)


def between(samples: int, anchors: Anchors) -> float:
    """Return the value at `samples`, a power of it from one anchor to the next."""
    (low, first), (high, last) = anchors
    exponent = math.log(last / first) / math.log(high / low)
    value: float = first * (min(max(samples, low), high) / low) ** exponent
    return value


Rule = Callable[[Draft], tuple[Any, str]]  # returns the value, and why


def image_size(draft: Draft) -> tuple[int | None, str]:
    """Return the side of the stored images, in pixels."""
    facts = draft.facts
    if not facts.scalable:
        return None, f"this data set has images of {facts.side} pixels"
    side = min(max(-(-facts.side // SIDE_STEP) * SIDE_STEP, SMALLEST_SIDE), LARGEST_SIDE)
    why = f"the median image has a shorter side of {facts.side} pixels"
    if not facts.gpu:
        fitting = math.isqrt(CPU_PIXELS // facts.samples) // SIDE_STEP * SIDE_STEP
        limit = min(max(fitting, CPU_SIDES[0]), CPU_SIDES[1])
        if limit < side:
            return limit, f"{why}, but more than {limit} take too long on a CPU"
    return side, why


def network(draft: Draft) -> tuple[dict[str, Any], str]:
    """Return the network's section."""
    if draft.facts.gpu and draft.side > SMALL_NETWORK_SIDE:
        return {"torchvision": {"name": "resnet18"}}, f"for {draft.side} pixels, on a GPU"
    return {
        "resnet18_cifar": {"width": width(draft)[0]}
    }, f"for {draft.side} pixels, {draft.device}"


def width(draft: Draft) -> tuple[int, str]:
    """Return the channels of the network's first stage."""
    return (64 if draft.facts.gpu else 16), draft.device


def mixmatch_batch(draft: Draft) -> tuple[int, str]:
    """Return the batch size of MixMatch."""
    small = draft.facts.gpu or draft.side <= 24
    return (64 if small else 32), f"for {draft.side} pixels, {draft.device}"


def virtual_batch(draft: Draft) -> tuple[int, str]:
    """Return the batch size of the virtual model and of training without defence."""
    return (32 if draft.facts.samples < FEW_SAMPLES else 128), of_samples(draft)


def of_samples(draft: Draft) -> str:
    """Return the usual reason."""
    return f"for {draft.facts.samples:,} samples"


def num_epochs(draft: Draft) -> tuple[int, str]:
    """Return the epochs of the run; those of the stages where these are given."""
    usual = between(draft.facts.samples, EPOCHS[draft.facts.gpu])
    return draft.number("global.epoch_third", usual), f"{of_samples(draft)}, {draft.device}"


def epoch_third(draft: Draft) -> tuple[int, str]:
    """Return the end of stage 3: that of the run."""
    return draft.epochs, "the last epoch"


def epoch_second(draft: Draft) -> tuple[int, str]:
    """Return the end of stage 2."""
    end = draft.number("global.epoch_third", draft.epochs)
    first = draft.number("global.epoch_first", 0)
    return max(round(STAGE_2_SHARE * end), first), "three quarters of the epochs"


def epoch_first(draft: Draft) -> tuple[int, str]:
    """Return the end of stage 1; of a run that was given other epochs, in proportion."""
    facts, end = draft.facts, draft.number("global.epoch_third", draft.epochs)
    usual = between(facts.samples, EPOCHS[facts.gpu])
    share = between(facts.samples, STAGE_1[facts.gpu]) / usual
    second = draft.number("global.epoch_second", end)
    return min(round(share * end), second), f"{of_samples(draft)}, {draft.device}"


def steps(draft: Draft) -> tuple[int, str]:
    """Return the MixMatch steps of an epoch."""
    facts = draft.facts
    drawn = between(facts.samples, DRAWN[facts.gpu])
    if not facts.gpu:
        drawn *= math.sqrt(max(facts.samples / SMALL, 1))
    batch = draft.number("semi.loader.batch_size", 64)
    return max(round(drawn / batch), 1), f"{of_samples(draft)} in batches of {batch}"


def interval(draft: Draft) -> tuple[int, str]:
    """Return after how many epochs the clean pool of stage 1 grows."""
    return round(between(draft.facts.samples, INTERVAL[draft.facts.gpu])), of_samples(draft)


def joining(draft: Draft) -> tuple[int, str]:
    """Return how many of each class join at a time."""
    smallest = draft.facts.smallest_class
    times = max((draft.number("global.epoch_first", 1) - 1) // draft.number("global.t", 1), 1)
    # One at least, but where that would take most of a tiny class.
    least = int(smallest > 2 * times)
    count = min(max(round(JOINED_SHARE * smallest / times), least), MOST_JOINED)
    return count, f"the smallest class has {smallest:,} samples"


def virtual_epochs(draft: Draft) -> tuple[int, str]:
    """Return the epochs of the virtual model."""
    samples, batch = draft.facts.samples, draft.number("loader.batch_size", 128)
    enough = min(VIRTUAL_SAMPLES / samples, VIRTUAL_STEPS / -(-samples // batch))
    return max(round(enough), 1), f"{of_samples(draft)} in batches of {batch}"


def schedule(draft: Draft) -> tuple[dict[str, Any] | None, str]:
    """Return the schedule of the learning rate; None: constant."""
    if draft.facts.gpu or draft.facts.samples < FEW_SAMPLES:
        return None, f"{of_samples(draft)}, {draft.device}"
    return {"CosineAnnealingLR": {"T_max": draft.epochs}}, f"{of_samples(draft)}, {draft.device}"


def crop_size(draft: Draft) -> tuple[int, str]:
    """Return the side of the random crop, in pixels."""
    return draft.side, "the image's size"


def crop_padding(draft: Draft) -> tuple[int, str]:
    """Return how much is added at each side before the crop, in pixels."""
    return draft.side // 8, "an eighth of the image's size"


CROP = "transform.train.primary.random_crop"
RULES: dict[str, Rule] = {
    "data.image_size": image_size,
    "network": network,
    "network.resnet18_cifar.width": width,
    "network.preactresnet18.width": width,
    "network.vgg19_bn.width": width,
    f"{CROP}.size": crop_size,
    f"{CROP}.padding": crop_padding,
    "num_epochs": num_epochs,
    "global.epoch_third": epoch_third,
    "global.epoch_first": epoch_first,
    "global.epoch_second": epoch_second,
    "global.t": interval,
    "global.n": joining,
    "semi.loader.batch_size": mixmatch_batch,
    "semi.mixmatch.train_iteration": steps,
    "loader.batch_size": virtual_batch,
    "meta.epoch": virtual_epochs,
    "lr_scheduler": schedule,
}
MAY_BE_NOTHING = ("data.image_size", "lr_scheduler")  # then written settings do not hold them


def open_keys(merged: dict[str, Any]) -> list[str]:
    """Return the keys that are left to `auto`."""
    draft = Draft(merged, TYPICAL)
    return [key for key in RULES if draft.get(key) == AUTO]


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

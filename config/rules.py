"""The rules for `auto`, one a key: from what is known of data and device to a value, and why."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from config.draft import Draft
from data.survey import SMALLEST_PHOTOGRAPH

PRETRAINED = "pretrained"  # `network: pretrained`
# (training samples, value) between which a number is interpolated.
Anchors = Sequence[tuple[int, float]]
Rule = Callable[[Draft], tuple[Any, str]]  # returns the value, and why
DIGITS, SMALL, WHOLE = 1437, 10_000, 50_000  # training samples
EPOCHS: Anchors = ((DIGITS, 20), (SMALL, 30), (WHOLE, 24))
DRAWN: Anchors = ((DIGITS, 2048), (SMALL, 6400), (WHOLE, 25_024))  # by MixMatch, in an epoch
STAGE_1: Anchors = ((DIGITS, 8), (SMALL, 8), (WHOLE, 6))
GROWTH: Anchors = ((DIGITS, 0.06), (SMALL, 0.05))  # share of each class that joins in an epoch
FORGOTTEN: Anchors = ((DIGITS, 0.02), (SMALL, 0.002))  # by the average of the weights, in a step
HELD: Anchors = ((DIGITS, 0.4), (SMALL, 0.3))  # share of the steps at the full learning rate

SMALLEST_SIDE, LARGEST_SIDE, SIDE_STEP = 16, 224, 4  # pixels
CPU_SIDES = 32, 64  # pixels: what may be left of large images on a CPU
CPU_PIXELS = SMALL * 32**2  # of a whole training set
SMALL_NETWORK_SIDE = 64  # pixels, up to which the network for small images is taken
JOINED_SHARE = 0.18  # of the smallest class, that joins the seeds in stage 1
MOST_JOINED = 10  # of a class at a time
INTERVAL = 2  # epochs after which so many join
VIRTUAL_SAMPLES, VIRTUAL_STEPS = 11_500, 360
FEW_SAMPLES, MANY_SAMPLES = 4000, 25_000
TINY_SIDE = 20  # pixels, up to which a narrower network knows as much, and steps are better spent
LARGE_SIDE = 40  # pixels, above which a step of 64 images takes too long on a CPU
# Of a start from weights of ImageNet.
START_SIDES = {False: (96, 96), True: (128, 224)}  # pixels: least, most
START_EPOCHS = 12
START_DRAWN = 1024  # samples in an epoch, on a CPU
START_STAGE_1 = 0.4  # of the epochs
START_VIRTUAL = 4000  # samples
MOST_WARMUP = 200  # steps
RATE, FAST_RATE, START_RATE = 0.002, 0.005, 0.0005  # of Adam


def between(samples: int, anchors: Anchors) -> float:
    """Return the value at `samples`: a power of it between two anchors, beyond them the nearest."""
    samples = min(max(samples, anchors[0][0]), anchors[-1][0])
    (low, first), (high, last) = next(pair for pair in pairwise(anchors) if samples <= pair[1][0])
    exponent = math.log(last / first) / math.log(high / low)
    value: float = first * (samples / low) ** exponent
    return value


def image_size(draft: Draft) -> tuple[int | None, str]:
    """Return the side of the stored images, in pixels."""
    facts = draft.facts
    if not facts.scalable:
        return None, f"this data set has images of {facts.side} pixels"
    if draft.pretrained:
        least, most = START_SIDES[facts.gpu]
        side = min(max(-(-facts.side // SIDE_STEP) * SIDE_STEP, least), most)
        return side, f"what weights of ImageNet take, {draft.device}"
    side = min(max(-(-facts.side // SIDE_STEP) * SIDE_STEP, SMALLEST_SIDE), LARGEST_SIDE)
    why = f"the median image has a shorter side of {facts.side} pixels"
    if not facts.gpu:
        fitting = math.isqrt(CPU_PIXELS // facts.samples) // SIDE_STEP * SIDE_STEP
        limit = min(max(fitting, CPU_SIDES[0]), CPU_SIDES[1])
        if limit < side:
            return limit, f"{why}, but more than {limit} take too long on a CPU"
    return side, why


def network(draft: Draft) -> tuple[dict[str, Any], str]:
    """Return the network's section; with learnt weights where these were looked for, and found."""
    found = draft.facts.backbone
    if found is not None and found.section is not None and draft.side >= SMALLEST_PHOTOGRAPH:
        return copy.deepcopy(found.section), found.why
    section, why = small_network(draft)
    return section, why if found is None else f"{why}; {found.why}"


def small_network(draft: Draft) -> tuple[dict[str, Any], str]:
    """Return the section of a network that learns all by itself."""
    if draft.facts.gpu and draft.side > SMALL_NETWORK_SIDE:
        return {"torchvision": {"name": "resnet18"}}, f"for {draft.side} pixels, on a GPU"
    return {"fastnet": {"width": fast_width(draft)[0]}}, f"{of_samples(draft)}, {draft.device}"


def fast_width(draft: Draft) -> tuple[int, str]:
    """Return the channels of fastnet's first stage."""
    if draft.facts.gpu:
        return 64, draft.device
    if draft.side <= TINY_SIDE:
        return 24, f"for {draft.side} pixels, {draft.device}"
    many = draft.facts.samples >= MANY_SAMPLES
    return (48 if many else 32), f"{of_samples(draft)}, {draft.device}"


def width(draft: Draft) -> tuple[int, str]:
    """Return the channels of another network's first stage."""
    return (64 if draft.facts.gpu else 16), draft.device


def mixmatch_batch(draft: Draft) -> tuple[int, str]:
    """Return the batch size of MixMatch."""
    small = draft.facts.gpu or draft.side <= LARGE_SIDE
    return (64 if small else 32), f"for {draft.side} pixels, {draft.device}"


def virtual_batch(draft: Draft) -> tuple[int, str]:
    """Return the batch size of the virtual model and of training without defence."""
    return (32 if draft.facts.samples < FEW_SAMPLES else 128), of_samples(draft)


def of_samples(draft: Draft) -> str:
    """Return the usual reason."""
    return f"for {draft.facts.samples:,} samples"


def num_epochs(draft: Draft) -> tuple[int, str]:
    """Return the epochs of the run; those of the stages where these are given."""
    return draft.number("global.epoch_third", usual_epochs(draft)), of_start(draft)


def usual_epochs(draft: Draft) -> float:
    """Return the epochs of a run of which nothing is given."""
    return START_EPOCHS if draft.pretrained else between(draft.facts.samples, EPOCHS)


def of_start(draft: Draft) -> str:
    """Return the reason of a schedule."""
    return "for a start from weights of ImageNet" if draft.pretrained else of_samples(draft)


def epoch_third(draft: Draft) -> tuple[int, str]:
    """Return the end of stage 3: that of the run."""
    return draft.epochs, "the last epoch"


def epoch_second(draft: Draft) -> tuple[int, str]:
    """Return the end of stage 2: that of the run, for a weak model's meta-split lets poison in."""
    return draft.number("global.epoch_third", draft.epochs), "no stage 3"


def epoch_first(draft: Draft) -> tuple[int, str]:
    """Return the end of stage 1; of a run that was given other epochs, in proportion."""
    end = draft.number("global.epoch_third", draft.epochs)
    share = START_STAGE_1
    if not draft.pretrained:
        share = between(draft.facts.samples, STAGE_1) / usual_epochs(draft)
    second = draft.number("global.epoch_second", end)
    return min(max(round(share * end), 1), second), of_start(draft)


def steps(draft: Draft) -> tuple[int, str]:
    """Return the MixMatch steps of an epoch."""
    facts = draft.facts
    drawn = between(facts.samples, DRAWN)
    if draft.pretrained and not facts.gpu:
        drawn = START_DRAWN
    if not facts.gpu:
        drawn *= math.sqrt(max(facts.samples / WHOLE, 1))
    batch = draft.number("semi.loader.batch_size", 64)
    return max(round(drawn / batch), 1), f"{of_samples(draft)} in batches of {batch}"


def growth(draft: Draft) -> tuple[float, str]:
    """Return which share of each class joins the clean pool in an epoch of stage 1.

    A longer stage 1 ends with a pool as large as the usual one, not with all there is.
    """
    share, usual = between(draft.facts.samples, GROWTH), between(draft.facts.samples, STAGE_1)
    longer = (draft.number("global.epoch_first", usual) - 1) / (usual - 1)
    return round(share / max(longer, 1), 4), of_samples(draft)


def ema(draft: Draft) -> tuple[float, str]:
    """Return the decay of the averaged weights."""
    if draft.pretrained:
        return 1 - FORGOTTEN[0][1], of_start(draft)
    return round(1 - between(draft.facts.samples, FORGOTTEN), 4), of_samples(draft)


def learning_rate(draft: Draft) -> tuple[dict[str, Any], str]:
    """Return how the learning rate runs: an epoch up, then held, then down to 0."""
    warmup = min(draft.number("semi.mixmatch.train_iteration", 100), MOST_WARMUP)
    held = round(between(draft.facts.samples, HELD), 2)
    return {"warmup": warmup, "hold": held}, "up for an epoch, and down to 0 in the end"


def interval(draft: Draft) -> tuple[int, str]:
    """Return after how many epochs the clean pool of stage 1 grows by a number a class."""
    return INTERVAL, "as on digits"


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
    if draft.pretrained:
        enough = START_VIRTUAL / samples
    return max(round(enough), 1), f"{of_samples(draft)} in batches of {batch}"


def optimizer(draft: Draft) -> tuple[dict[str, Any], str]:
    """Return the optimiser's section."""
    if draft.pretrained:
        return {"Adam": {"lr": START_RATE}}, "what was learnt elsewhere shall not be lost"
    fast = "fastnet" in (draft.get("network") or ()) and draft.facts.samples >= FEW_SAMPLES
    return {"Adam": {"lr": FAST_RATE if fast else RATE}}, "all is to be learnt"


def schedule(draft: Draft) -> tuple[dict[str, Any] | None, str]:
    """Return the schedule of the learning rate, epoch by epoch."""
    return {"CosineAnnealingLR": {"T_max": draft.epochs}}, of_start(draft)


def crop_size(draft: Draft) -> tuple[int, str]:
    """Return the side of the random crop, in pixels."""
    return draft.side, "the image's size"


def crop_padding(draft: Draft) -> tuple[int, str]:
    """Return how much is added at each side before the crop, in pixels."""
    return draft.side // 8, "an eighth of the image's size"


CROP = "transform.train.primary.random_crop"
RULES: dict[str, Rule] = {
    "network": network,
    "network.fastnet.width": fast_width,
    "network.resnet18_cifar.width": width,
    "network.preactresnet18.width": width,
    "network.vgg19_bn.width": width,
    "data.image_size": image_size,
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
    "global.growth": growth,
    "semi.ema": ema,
    "optimizer": optimizer,
    "learning_rate": learning_rate,
    "lr_scheduler": schedule,
}

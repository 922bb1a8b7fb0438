"""Own data, of which nobody knows the truth: what a person has checked, and what measures ACC.

Verified samples come from a list (`global.seed_indices`), or from a folder (`global.seed_dir`, else
`seeds/` beside `train/`) with the images that a person has looked at, in folders of the same
classes. An image of that folder which is also a training image of its class, pixel for pixel,
stands for that one; any other becomes one more training sample. Where nobody has checked anything,
seeds are drawn from the data themselves: then they may be poisoned, and prove nothing.

Without a test set, a part of the verified samples is held out of training and measures ACC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.chosen_set import source_of
from data.dataset import ImageData, Split
from data.dataset.cache import decode_once
from data.dataset.remarks import judge_unreadable
from data.dataset.spelling import composed
from data.dataset.walk import SEEDS, TRAIN, Survey, subfolders
from data.held_out import choose_held_out, hold_out, refuse_too_large
from data.poison import as_defended
from data.seed_folder import KEY, seed_folder
from data.seeds import draw_seeds, number_to_draw, read_seeds, refuse_few
from data.settings import DataSettings
from data.transform.build import before_trigger
from data.twins import pixel_hashes, twins
from utils.errors import InputError, nearest
from utils.streams import Streams


@dataclass(frozen=True)
class Verified:
    """Own data, ready for training.

    Attributes:
        data: with the verified images that were not in it, and without the held-out ones, which
            are its test set then.
        seeds: (n,) int64, sorted, the verified samples that are trained on.
        checked: whether a person has checked them.
        holds_out: whether the test set are held-out verified samples.
        lines: to say.
    """

    data: ImageData
    seeds: Tensor
    checked: bool
    holds_out: bool
    lines: tuple[str, ...]


def verify(config: DataSettings, data: ImageData, streams: Streams, cache: Path) -> Verified:
    """Find the verified samples of own data, and hold some out where there is no test set.

    Args:
        config: without an attack.
        data: as loaded.
        streams: of the run.
        cache: the folder in which decoded images are kept.

    Raises:
        InputError: the list or the folder of verified samples does not fit the data.
    """
    schedule, folder = config.global_, seed_folder(config)
    if schedule.chosen:
        return unverified(data, folder)
    least = 1 if schedule.seed_num == "auto" else schedule.seed_num
    lines: list[str] = []
    if folder is not None:
        data, seeds, lines = from_folder(config, data, folder, cache)
        refuse_few(seeds, as_defended(data), least, f"{KEY}: {folder}")
    elif schedule.seed_indices is not None:
        seeds = read_seeds(schedule.seed_indices, as_defended(data), least)
    else:
        return draw_unverified(config, data, streams)
    if len(data.test):
        return Verified(data, seeds, True, False, tuple(lines))
    places = choose_held_out(data, seeds, schedule.seed_num, streams)
    data, seeds, more = hold_out(data, seeds, places)
    return Verified(data, seeds, True, len(places) > 0, (*lines, *more))


def unverified(data: ImageData, folder: Path | None) -> Verified:
    """Return own data of which no sample is verified: witnesses shall choose.

    Raises:
        InputError: there are verified images in `folder`, which are better.
    """
    if folder is not None:
        raise InputError(
            f"global.seed_choice: witnesses is for data without verified images, and {folder} "
            f"holds some; leave the key out, or move the folder away"
        )
    return Verified(data, torch.empty(0, dtype=torch.int64), False, False, ())


def draw_unverified(config: DataSettings, data: ImageData, streams: Streams) -> Verified:
    """Draw seeds from the data; they count as checked where the data are known to be clean."""
    training = as_defended(data)
    count = number_to_draw(config.global_, training)
    everything = torch.ones(len(training), dtype=torch.bool)
    seeds = draw_seeds(training, everything, count, streams)
    if source_of(config).known_to_be_clean:
        return Verified(data, seeds, True, False, ())
    unmeasured = "" if len(data.test) else ", and ACC is not measured"
    drawn = "1 image a class was" if count == 1 else f"{count} images a class were"
    line = (
        f"NOBODY HAS CHECKED THE SEEDS: {drawn} drawn from the folder itself "
        f"and may be poisoned, so this run can never conclude `no sign of poison`{unmeasured}; put "
        f"about twenty checked images a class into {SEEDS}/<class>/ beside {TRAIN}/, or list them "
        f"in a file (global.seed_indices); without any, global.seed_choice=witnesses is safer"
    )
    return Verified(data, seeds, False, False, (line,))


# --------------------------------------------------------------------- a folder of checked images


def from_folder(
    config: DataSettings, data: ImageData, folder: Path, cache: Path
) -> tuple[ImageData, Tensor, list[str]]:
    """Return the data with the images of `folder` among them, which these are, and lines to say."""
    refuse_class_called_seeds(data.train, folder)
    checked, left_out = read_folder(config, data.classes, folder, cache)
    seeds, new, lines = match(data, checked)
    found = f"{len(seeds) + len(new)} verified images in {folder}"
    lines.insert(0, f"{found}: {len(seeds)} are training images, {len(new)} are added to them")
    lines += left_out + describe_tested(data.test, checked, folder)
    first = len(data.train)
    if new:
        refuse_too_large(data)
        train = data.train.joined(checked.picked(torch.tensor(new)))
        data = replace(data, train=train, added=folder)
    indices = torch.tensor([*seeds, *range(first, first + len(new))], dtype=torch.int64)
    return data, indices.sort().values, lines


def refuse_class_called_seeds(train: Split, folder: Path) -> None:
    """Raise `InputError` for a class whose files are called as the images of `folder` will be."""
    if any(file.startswith(f"{SEEDS}/") for file in train.files or ()):
        raise InputError(
            f"{KEY}: the images of {folder} are called {SEEDS}/<class>/..., and a class folder "
            f"called {SEEDS!r} lies in dataset_dir itself; move the class folders into {TRAIN}/"
        )


def read_folder(
    config: DataSettings, classes: tuple[str, ...], folder: Path, cache: Path
) -> tuple[Split, list[str]]:
    """Return the verified images, sized as the training images, and what was left out.

    Raises:
        InputError: no image, one that cannot be read, or a folder that is no class.
    """
    labels = {composed(name): label for label, name in enumerate(classes)}
    try:
        present = subfolders(folder)
        if config.data.classes is not None:  # others may lie beside them, as among the images
            present = [name for name in present if composed(name) in labels]
        for name in present:
            if composed(name) not in labels:
                raise InputError(
                    f"{KEY}: {folder / name} belongs to no class{nearest(name, classes)}"
                )
        wanted = {name: labels[composed(name)] for name in present}
        survey = Survey(folder, wanted, chosen=True)
        listing = survey.listing(SEEDS, folder)
    except OSError as error:
        raise InputError(f"{KEY}: {error.filename} cannot be read ({error.strerror})") from error
    if not listing.files:
        raise InputError(f"{KEY}: {folder} holds no image; put some into {folder}/<class>/")
    split, part = decode_once(listing, config.data.frame, cache)
    unreadable = judge_unreadable([part], config.data.skip_unreadable, cache, KEY)
    lines = [f"{folder}: {line}" for line in survey.lines()] + unreadable
    split = replace(split, files=tuple(f"{SEEDS}/{file}" for file in part.files))
    return before_trigger(split, config.transform), lines


def describe_tested(test: Split, checked: Split, folder: Path) -> list[str]:
    """Return a line where test images are verified images, which are trained on."""
    same = sum(len(found) for found in twins(test, pixel_hashes(checked)).values())
    if not same:
        return []
    return [
        f"{same} of {len(test)} test images are verified images in {folder}, pixel for pixel: ACC "
        f"is measured on what was trained on; take them out of one of the two"
    ]


def match(data: ImageData, checked: Split) -> tuple[list[int], list[int], list[str]]:
    """Return the training samples that are verified, the new images of `checked`, and lines to say.

    Raises:
        InputError: a person saw another class in an image than the training set says.
    """
    assert checked.files is not None
    hashes = pixel_hashes(checked)
    same_pixels = twins(data.train, hashes)
    first: dict[bytes, int] = {}
    seeds, new, lines = [], [], []
    for place, own in enumerate(hashes):
        label, file = int(checked.labels[place]), checked.files[place]
        earlier = first.setdefault(own, place)
        if earlier != place:
            refuse_two_classes(checked, earlier, place)
            lines.append(f"{file!r} repeats {checked.files[earlier]!r} and is counted once")
            continue
        agreeing = [i for i in same_pixels[own] if int(data.train.labels[i]) == label]
        others = [i for i in same_pixels[own] if i not in agreeing]
        if others:
            lines += contested(data, others[0], file, label, bool(agreeing))
        if agreeing:
            seeds.append(agreeing[0])
        else:
            new.append(place)
    return seeds, new, lines


def refuse_two_classes(checked: Split, first: int, second: int) -> None:
    """Raise `InputError` if the same image was verified as two classes."""
    if checked.labels[first] != checked.labels[second]:
        assert checked.files is not None
        raise InputError(
            f"{KEY}: {checked.files[first]!r} and {checked.files[second]!r} are the same image in "
            f"two classes; remove the wrong one"
        )


def contested(data: ImageData, index: int, file: str, label: int, agreeing: bool) -> list[str]:
    """Return a line where a verified image has another label, too, in the training set.

    Raises:
        InputError: it has no other label there.
    """
    assert data.train.files is not None
    given = data.classes[int(data.train.labels[index])]
    what = (
        f"{file!r} is verified as {data.classes[label]!r}, but the same image lies in the folder "
        f"of class {given!r}: {data.train.files[index]!r}"
    )
    if not agreeing:
        raise InputError(f"{KEY}: {what}; move that one, or take it out of the verified images")
    return [f"{what}, too"]

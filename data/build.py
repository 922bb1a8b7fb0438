"""From the configuration to the data: which set, which part of it, which poison."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data.attack import ATTACKS, Scene
from data.dataset import DATASETS, ImageData, Split
from data.poison import TrainingSet, Truth, check_target, leave_clean, poison
from data.transform import TRANSFORMATIONS
from utils.errors import InputError
from utils.streams import Streams

if TYPE_CHECKING:
    from config.schema import Config, TransformSection


def dataset_name(config: Config) -> tuple[str, str | None]:
    """Return the data set's name, and a line where the published rule found it.

    The published code looks for a word in `dataset_dir`.

    Raises:
        InputError: neither `dataset` nor the rule names one.
    """
    if config.dataset is not None:
        return config.dataset, None
    folder = config.dataset_dir or ""
    for name in DATASETS:
        word = DATASETS.get(name).published_word
        if word is not None and word in folder:
            return name, f"dataset: {name}, since dataset_dir holds the word {word!r}"
    raise InputError(
        f"dataset: missing, and dataset_dir does not tell; known: {', '.join(DATASETS)}"
    )


def load_data(config: Config) -> tuple[ImageData, list[str]]:
    """Return the clean data set, reduced and resized as configured, and lines to say.

    Raises:
        InputError: it is not there, or a key contradicts it.
    """
    name, notice = dataset_name(config)
    data = DATASETS.get(name)().load(config.dataset_dir)
    for key, count in config.class_counts().items():
        if count != data.num_classes:
            raise InputError(f"{key} and dataset contradict: {name} has {data.num_classes} classes")
    if config.data.train_samples is not None:
        kept = data.train.first_of_each_class(config.data.train_samples, data.num_classes)
        data = replace(data, train=kept)
    data = replace(
        data,
        train=before_trigger(data.train, config.transform),
        test=before_trigger(data.test, config.transform),
    )
    return data, [notice] if notice else []


def before_trigger(split: Split, transform: TransformSection) -> Split:
    """Apply `transform.pre` (resize, centre crop) once, before any trigger."""
    images = split.images
    for choice in transform.pre:
        step = TRANSFORMATIONS.get(choice.name)(choice.settings)
        draw = step.draw(len(images), images.shape[1], images.shape[2], torch.Generator())
        if draw:
            raise InputError(
                f"transform.pre.{choice.name}: a random step cannot come before the trigger"
            )
        if not step.fits(images.shape[1], images.shape[2]):
            raise InputError(f"transform.pre.{choice.name}.size: larger than the image")
        images = step.apply(images, draw)
    return Split(images, split.labels)


def poison_data(config: Config, data: ImageData, streams: Streams) -> tuple[TrainingSet, Truth]:
    """Return what the defender sees, and the truth."""
    if config.backdoor is None:
        return leave_clean(data)
    backdoor = config.backdoor
    check_target(backdoor.target_label, data.num_classes)
    height, width = data.train.images.shape[1:3]
    scene = Scene(height, width, backdoor.target_label, streams)
    attack = ATTACKS.get(backdoor.attack.name)(backdoor.attack.settings, scene)
    return poison(data, attack, backdoor.poison_ratio, backdoor.selection, streams)


def to_device(training: TrainingSet, device: torch.device) -> TrainingSet:
    """Return the training set with its tensors on `device`."""
    return replace(training, images=training.images.to(device), labels=training.labels.to(device))


def size_of(*tensors: Tensor) -> int:
    """Return the bytes that tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

"""From the configuration to the data: which set, which part of it, which poison."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from data.apart import refuse_own_folders_among_images
from data.attack import ATTACKS, Attack, AttackContext, LabelRule
from data.attack.settings import BackdoorSection
from data.chosen_set import dataset_name, source_of
from data.dataset import ImageData, Request, Source
from data.dataset.decode import Frame
from data.dataset.settings import DataSection
from data.imported import Poisoned, import_truth
from data.kept import POISON_FILE, read_poison, write_poison
from data.own import verify
from data.poison import TrainingSet, Truth, leave_clean, poison
from data.seed_folder import describe_unread
from data.seeds import verified_seeds
from data.settings import DataSettings
from data.transform.build import before_trigger
from utils.contents import contents_of
from utils.errors import InputError
from utils.files import locked
from utils.memory import free_bytes
from utils.paths import cache_folder, user_path
from utils.streams import Streams

CPU = torch.device("cpu")
FORMAT = 1  # of the kept poison, for all attacks; each has a version of its own, too


def load_data(config: DataSettings) -> tuple[ImageData, list[str]]:
    """Return the clean data set, reduced and resized as configured, and lines to say.

    Raises:
        InputError: it is not there, a key contradicts it, or what is kept would lie in it.
    """
    name, notice = dataset_name(config)
    source = source_of(config)
    refuse_own_folders_among_images(config)
    refuse_unread(config.data, name, source)
    data = source().load(Request(config.dataset_dir, config.data, image_cache(config)))
    for key, count in config.class_counts().items():
        if count != data.num_classes:
            raise InputError(f"{key} and dataset contradict: {name} has {data.num_classes} classes")
    if config.data.train_samples is not None:
        kept = data.train.first_of_each_class(config.data.train_samples, data.num_classes)
        data = data.trained_on(kept)
    side = min(data.train.images.shape[1:3])
    data = replace(
        data,
        frame=data.frame or Frame(side, side),
        train=before_trigger(data.train, config.transform),
        test=before_trigger(data.test, config.transform),
    )
    return data, [*([notice] if notice else []), *data.notices]


def image_cache(config: DataSettings) -> Path:
    """Return the folder in which decoded images are kept."""
    if config.data.cache_dir is not None:
        return user_path(config.data.cache_dir, "data.cache_dir")
    return cache_folder(config.storage_dir) / "images"


def refuse_unread(settings: DataSection, name: str, source: type[Source]) -> None:
    """Raise `InputError` if a key of `data` is set that the data set does not read."""
    for key, field in type(settings).model_fields.items():
        unread = key != "train_samples" and key not in source.settings_read
        if unread and getattr(settings, key) != field.default:
            raise InputError(f"data.{key} means nothing to dataset {name}; leave it out")


def build_attack(backdoor: BackdoorSection, data: ImageData, streams: Streams) -> Attack:
    """Return the configured attack on `data`; it has learnt nothing yet.

    Raises:
        InputError: it does not fit the data.
    """
    height, width = data.train.images.shape[1:3]
    rule = LabelRule(backdoor.label_rule, backdoor.target_label, data.num_classes)
    attack_class = ATTACKS.get(backdoor.attack.name)
    return attack_class(backdoor.attack.settings, AttackContext(height, width, rule, streams))


def poison_data(
    config: DataSettings,
    data: ImageData,
    streams: Streams,
    device: torch.device = CPU,
    dry_run: bool = False,
) -> tuple[TrainingSet, Truth]:
    """Return what the defender sees, and the truth.

    An attack that learns something does so on `device`. What it made is kept below `storage_dir`
    under a hash of all that it depends on, and found there by the next run. In a `dry_run` nothing
    is learnt: the set is clean then, and has no triggered test images.
    """
    if config.backdoor is None:
        return leave_clean(data)
    backdoor = config.backdoor
    attack = build_attack(backdoor, data, streams)
    if not attack.worth_caching:
        return poison(data, attack, backdoor.poison_ratio, backdoor.selection, streams)
    folder = poison_cache(config, data, streams)
    path = folder / POISON_FILE
    found = read_poison(path, data)  # without the lock: a cache may lie where nobody may write
    if found is not None:
        return found
    if dry_run and attack.learns:
        training, truth = leave_clean(data)
        return replace(training, home=None), truth  # as it will be when the trigger is learnt
    with locked(folder, "storage_dir"):
        found = read_poison(path, data)  # perhaps another run has made it in the meantime
        if found is None:
            attack.prepare(data, device, folder)
            found = poison(data, attack, backdoor.poison_ratio, backdoor.selection, streams)
            write_poison(path, *found)
    return found


def poison_cache(config: DataSettings, data: ImageData, streams: Streams) -> Path:
    """Return the folder in which the poisoned set is kept: named after all it depends on."""
    assert config.backdoor is not None
    made_from = [FORMAT, data.fingerprint(), streams.seed, config.backdoor.as_yaml()]
    version = ATTACKS.get(config.backdoor.attack.name).version
    made_from += [version] if version > 1 else []  # the first is what older caches are called by
    files = contents_of(config.backdoor)
    made_from += [files] if files else []
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return cache_folder(config.storage_dir) / f"{config.backdoor.attack.name}-{digest[:16]}"


@dataclass(frozen=True)
class Material:
    """All that a run is made from.

    Attributes:
        data: as loaded; of own data, with held-out verified samples as the test set.
        training, truth: what the defender sees, and what is true.
        seeds: (n,) int64, sorted, the verified samples; none where witnesses shall choose them.
        seeds_checked: whether somebody vouches for them: a person, the truth, or a data set that
            is known to be clean.
        holds_out: whether ACC is measured on verified samples that are held out of training.
        lines: to say.
    """

    data: ImageData
    training: TrainingSet
    truth: Truth
    seeds: Tensor
    seeds_checked: bool
    holds_out: bool = False
    lines: tuple[str, ...] = ()

    def fingerprints(self, truth_known: bool) -> dict[str, str]:
        """Return the SHA-256 of everything by which a run knows its data, by name."""
        found = {"data": self.data.fingerprint()}
        if len(self.seeds):
            found["seeds"] = seeds_fingerprint(self.seeds)
        if truth_known:
            found["poison"] = self.truth.fingerprint()
            found["poisoned_images"] = fingerprint_of_changed(self.training, self.truth)
        return found


def seeds_fingerprint(seeds: Tensor) -> str:
    """Return the SHA-256 of the verified samples `seeds` (n,) int64."""
    return hashlib.sha256(seeds.numpy().tobytes()).hexdigest()


def fingerprint_of_changed(training: TrainingSet, truth: Truth) -> str:
    """Return the SHA-256 of all given labels, and of the training images that were changed."""
    digest = hashlib.sha256(training.labels.numpy().tobytes())
    for index in torch.nonzero(~truth.untouched).flatten().tolist():
        digest.update(training.images[index].contiguous().numpy().data)
    return digest.hexdigest()


def with_truth(
    config: DataSettings,
    data: ImageData,
    streams: Streams,
    device: torch.device = CPU,
    dry_run: bool = False,
) -> Poisoned:
    """Return the set with the truth about it: poisoned here, or elsewhere (`data.truth`).

    Raises:
        InputError: the attack or the table does not fit the data.
    """
    if config.data.truth is not None:
        return import_truth(config, data, image_cache(config))
    training, truth = poison_data(config, data, streams, device, dry_run)
    return Poisoned(data, training, truth, describe_poison(training, truth))


def assemble(
    config: DataSettings,
    data: ImageData,
    streams: Streams,
    device: torch.device = CPU,
    dry_run: bool = False,
    needs_seeds: bool = True,
) -> Material:
    """Poison benchmark data and draw their verified samples; find those of own data.

    Args:
        config: of the data.
        data: as loaded.
        streams: of the run.
        device: on which an attack learns.
        dry_run: leave out an attack that learns.
        needs_seeds: raise where verified samples cannot be drawn, since there are too few.

    Raises:
        InputError: attack or verified samples do not fit the data.
    """
    if config.truth_known:
        known = with_truth(config, data, streams, device, dry_run)
        seeds, told = drawn_seeds(config, known, streams, needs_seeds)
        checked = not config.global_.chosen
        lines = (*known.lines, *told, *describe_unread(config))
        return Material(known.data, known.training, known.truth, seeds, checked, lines=lines)
    found = verify(config, data, streams, image_cache(config))
    training, truth = leave_clean(found.data)
    lines = (*found.lines, *describe_unread(config))
    return Material(found.data, training, truth, found.seeds, found.checked, found.holds_out, lines)


def drawn_seeds(
    config: DataSettings, known: Poisoned, streams: Streams, needed: bool
) -> tuple[Tensor, tuple[str, ...]]:
    """Return the verified samples (n,) int64 of data whose truth is known, and lines to say.

    An attack may leave a class without a clean sample. Who trains without verified ones is not kept
    from it: such a run has none.
    """
    try:
        clean = known.truth.untouched
        return verified_seeds(config.global_, known.training, clean, streams), ()
    except InputError as error:
        if needed or config.global_.seed_indices is not None:
            raise
        return torch.empty(0, dtype=torch.int64), (f"{error}; none are drawn, nor are any needed",)


def describe_poison(training: TrainingSet, truth: Truth) -> tuple[str, ...]:
    """Return a line where nothing is poisoned: ASR is then what a clean model gives by chance."""
    if truth.poisoned.any():
        return ()
    if truth.triggered_test is None:
        return ("backdoor: is learnt when the run starts; what is shown here is of the clean set",)
    return (
        f"backdoor: none of the {len(training)} training samples is poisoned; ASR says how often a "
        f"trigger that was never learnt leads to the target",
    )


def to_device(
    training: TrainingSet, device: torch.device, budget: float | Literal["auto"] = "auto"
) -> TrainingSet:
    """Return the training set with its labels on `device`, and its images too if they fit.

    Args:
        training: in host memory, or in a memory map.
        device: of the run.
        budget: memory for the images in GiB; `auto`: half of what is free.
    """
    room = free_bytes(device) / 2 if budget == "auto" else budget * 2**30
    labels = training.labels.to(device)
    if size_of(training.images) > room:
        return replace(training, labels=labels, mapped=True)
    return replace(training, images=training.images.to(device), labels=labels)


def size_of(*tensors: Tensor) -> int:
    """Return the bytes that tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

"""Where nobody has verified a sample: the witnesses choose those from which the defence starts."""

from __future__ import annotations

import torch

from data.dataset.source import first_of_each_class
from data.poison import TrainingSet
from data.seeds import number_to_draw, refuse_too_few
from run.material import Material
from run.setup import Setup
from utils.console import say
from witness.hearing import Hearing


def choose_seeds(
    setup: Setup, material: Material, hearing: Hearing, dry_run: bool = False
) -> Material:
    """Return the material with the samples that the witnesses trust most, where they shall choose.

    They are kept in the checkpoint: a run that goes on has the same, whatever the witnesses would
    say on another machine.

    Args:
        setup: of the run.
        material: its data.
        hearing: of the witnesses; they are asked here, unless the checkpoint knows the answer.
        dry_run: nothing is trained, so that the first samples of each class stand for those.

    Raises:
        InputError: a class is too small, or the checkpoint has other samples.
    """
    schedule, training = setup.config.global_, material.training
    if not schedule.chosen:
        return material
    count = number_to_draw(schedule, training)
    refuse_small_classes(training, count)
    state = setup.start.own_state
    if state is not None and state.get("seeds") is not None:
        found = state["seeds"]
    elif dry_run:
        classes = training.num_classes
        found = first_of_each_class(training.labels.cpu(), count * classes, classes)
    else:
        found = hearing.most_trusted(count)
    chosen = material.with_chosen(found)
    setup.start.refuse_other_data(chosen.fingerprints)
    if not dry_run:
        say(
            f"no verified samples: the start was chosen by the witnesses, {count} samples a class; "
            f"so this run never concludes `no sign of poison`"
        )
    return chosen


def refuse_small_classes(training: TrainingSet, count: int) -> None:
    """Raise `InputError` if a class has fewer than `count` samples."""
    sizes = torch.bincount(training.labels.cpu(), minlength=training.num_classes)
    smallest = int(sizes.argmin())
    refuse_too_few(int(sizes[smallest]), count, training.classes[smallest])

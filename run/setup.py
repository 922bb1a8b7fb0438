"""What a run is before it has data: its configuration, device, folder and random streams."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from config.load import Loaded, load_config
from config.schema import Config
from data.apart import refuse_among_images, refuse_own_folders_among_images
from data.survey import survey
from run.folder import RunFolder
from run.lock import refuse_if_held, sole_writer
from run.names import find_folder
from run.resume import Resumption, find_start
from utils.console import be_silent, say
from utils.device import find_device
from utils.interrupt import Interrupt
from utils.precision import make_repeatable
from utils.streams import Streams
from utils.world import World, join


@dataclass(frozen=True)
class Setup:
    """What the command line and the YAML decide.

    Attributes:
        config: validated, with a choice for every `auto`.
        device, world: where this process computes, and with which others.
        folder: of the run; nothing in it is changed yet.
        start: the checkpoint to go on from, if there is one.
        streams: the run's random numbers.
    """

    config: Config
    device: torch.device
    world: World
    folder: RunFolder
    start: Resumption
    streams: Streams


def set_up(arguments: argparse.Namespace, interrupt: Interrupt) -> Setup:
    """Read configuration and checkpoint, join the other processes, and say what was chosen.

    Raises:
        InputError: one of them is wrong, or the checkpoint is of another experiment.
    """
    loaded = load_config(Path(arguments.config), arguments.overrides)
    device, notice = find_device(arguments.gpu)
    world = interrupt.stop_together(join(device))
    be_silent(not world.is_first)
    folder = find_folder(loaded.config.storage_dir, arguments.name, loaded.name)
    epochs = None if "num_epochs" in loaded.open_keys else loaded.config.num_epochs
    start = find_start(folder, arguments.resume, epochs)
    writes = not (arguments.bench or arguments.report or start.only_evaluate)
    if world.is_first and writes:
        folder.refuse_unwritable()
        if not arguments.check:
            refuse_if_held(folder.path)
    loaded = settle_auto(arguments, loaded, device, start)
    config = loaded.config
    refuse_among_images(folder.path, "--name", config)
    start.refuse_other_experiment(config)
    for line in [*loaded.notices, notice, start.why]:
        if line is not None:
            say(line)
    make_repeatable(config.seed.deterministic, config.seed.benchmark, config.speed.reference)
    seed = torch.tensor(start.seed(config.seed.seed))
    streams = Streams(int(world.from_first_process(seed)))  # a fresh one is drawn in each process
    return Setup(config, device, world, folder, start, streams)


def only_writer(setup: Setup) -> AbstractContextManager[None]:
    """Return what keeps others out of the run's folder; the first process does so for all."""
    first = setup.world.is_first
    return sole_writer(setup.folder.path, setup.start) if first else nullcontext()


def settle_auto(
    arguments: argparse.Namespace,
    loaded: Loaded,
    device: torch.device,
    start: Resumption | None = None,
) -> Loaded:
    """Return the configuration with a choice for every `auto`: the checkpoint's, else a fresh one.

    So a run that goes on keeps its choices, whatever has become of the data or the device.

    Raises:
        InputError: what the run keeps would lie among the images; nothing is written yet.
    """
    refuse_own_folders_among_images(loaded.config)
    if not loaded.open_keys:
        return loaded
    path, state = Path(arguments.config), None if start is None else start.own_state
    if state is not None:
        kept = load_config(path, arguments.overrides, earlier=state["config"])
        if not kept.open_keys:
            return kept
    earlier = None if state is None else state["config"]
    facts = survey(loaded.config, device)
    if loaded.wants_backbone:
        facts = facts.with_backbone()
    return load_config(path, arguments.overrides, facts, earlier)

"""From the configuration to what learns: views, network, ground, learner and method of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from config.schema import Config
from data.build import to_device
from data.poison import TrainingSet
from data.transform import Chain
from data.transform.build import build_chain
from defense import DEFENSES, Defense, Knowledge, Setting
from model import NETWORKS, Network, build_network, check_size
from model.place import place_network
from model.synchronised import synchronise
from run.material import Material
from run.session import Session
from run.setup import Setup
from training.average import Average
from training.ground import Ground
from training.learner import Learner
from training.rate import Rate
from training.torch_parts import build_optimizer, build_scheduler
from utils.engine import choose_engine, settled
from utils.paths import cache_folder
from utils.threads import set_threads
from witness.hearing import Hearing, check_hearing


@dataclass(frozen=True)
class Views:
    """How an image is seen: at every draw in training, and in evaluation."""

    train: Chain
    test: Chain


def build_views(config: Config, training: TrainingSet) -> Views:
    """Return both chains of transformations, for images of the training set's size."""
    height, width = training.images.shape[1:3]
    train = build_chain("train", config.transform.train, height, width)
    return Views(train, build_chain("test", config.transform.test, height, width))


def build_fitting_network(setup: Setup, material: Material, views: Views) -> Network:
    """Return the untrained network, on the CPU.

    Raises:
        InputError: it takes no images of the views' sizes.
    """
    choice = setup.config.network
    network = build_network(
        NETWORKS.get(choice.name),
        choice.settings,
        material.training.num_classes,
        setup.streams.state("network"),
    )
    for chain in (views.train, views.test):
        check_size(network, f"network.{choice.name}", *chain.output_size)
    normal = views.test.normalize
    network.fit_input(material.training.images, torch.tensor(normal.mean), torch.tensor(normal.std))
    return network


def lay_ground(setup: Setup, material: Material, views: Views, network: Network) -> Ground:
    """Choose how `network` computes, bring it there, and the training set too where it fits."""
    config, device = setup.config, setup.device
    if device.type == "cpu":
        set_threads(config.speed.threads, network, views.test.output_size)
    engine = choose_engine(device, config.speed, network, setup.world)
    # A repair is made whole in each process, so there each has the whole batch.
    if config.sync_bn and setup.world.size > 1 and config.repair.method is None:
        synchronise(network, device)
    place_network(network, engine)
    return Ground(
        training=to_device(material.training, device, config.speed.memory_budget),
        chain=views.train,
        streams=setup.streams,
        engine=engine,
        evaluation_batch=config.speed.evaluation_batch,
        plain=views.test,
    )


def call_witnesses(setup: Setup, material: Material, ground: Ground) -> Hearing:
    """Return whom one may ask beside the model that is trained.

    Nothing is trained yet: they are heard when the first split asks, or when they are to choose the
    samples from which stage 1 starts.
    """
    config = setup.config
    if config.needs_hearing or config.global_.chosen:
        check_hearing(config.witness, ground)
    # Seeds that nobody has checked are no verified samples, as good as any poison may be among
    # them. Nor are those that a person has reviewed since: they are few, and of some classes only.
    seeds = material.seeds if material.seeds_checked else material.seeds[:0]
    return Hearing(config.witness, ground, seeds, cache_folder(config.storage_dir))


def build_learner(config: Config, network: Network, weight_average: bool) -> Learner:
    """Return `network`, which is on its device, with what moves its weights.

    Args:
        config: of the run.
        network: on its device.
        weight_average: whether the method supports a moving average of the weights.
    """
    optimizer = build_optimizer(config.optimizer, network.parameters())
    rate, ema = config.learning_rate, config.semi.ema
    return Learner(
        network=network,
        optimizer=optimizer,
        scheduler=build_scheduler(config.lr_scheduler, optimizer),
        rate=None if rate is None else Rate(rate, optimizer),
        average=Average(network, ema.decay) if weight_average and ema.decay else None,
        use=ema.use,
    )


def build_session(
    setup: Setup,
    material: Material,
    views: Views,
    ground: Ground,
    learner: Learner,
    hearing: Hearing | None = None,
) -> Session:
    """Return the run at its beginning, with its method.

    Args:
        setup: configuration, device, folder.
        material: its data.
        views: how an image is seen.
        ground: what a step stands on.
        learner: what it changes.
        hearing: whom the method may ask beside the model; None: nobody.
    """
    device = ground.engine.device
    knowledge = Knowledge(material.seeds.to(device), material.review.to(device), hearing)
    defense = build_defense(Setting(setup.config.of_defense(), ground, knowledge, learner), setup)
    return Session(setup, material, defense.setting.ground, learner, defense, views.test)


def build_defense(setting: Setting, setup: Setup) -> Defense:
    """Return the method; its steps are translated where that pays in what the run has left.

    Only the method knows its steps, so it is built again where they are. It keeps nothing yet.
    """
    config, start, kind = setup.config, setup.start, DEFENSES.get(setup.config.method)
    defense, ground = kind(setting), setting.ground
    if start.only_evaluate or config.repair.method is not None:  # then it takes no steps
        return defense
    epoch, step = (0, 0) if start.state is None else (start.state["epoch"], start.state["step"])
    size, left = ground.chain.output_size, defense.steps_left(epoch, step)
    engine = settled(ground.engine, setting.learner.network, size, left)
    if not engine.compiled or engine is ground.engine:
        return defense
    return kind(replace(setting, ground=replace(ground, engine=engine)))

"""What `--check` prints: the run as it would be, without a step of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from data.build import size_of
from data.poison import given_targets
from run.material import Material
from run.repairing import finished_source
from run.session import Session
from utils.console import say, table

TRAINED_COPIES = 4  # of each weight: itself, its gradient, and two moments of Adam


def feature_bytes(network: nn.Module, height: int, width: int, bytes_each: int) -> int:
    """Return the bytes of all feature maps that one image leaves for the backward pass.

    Measured on PyTorch's meta device, which computes shapes only.
    """
    probe = build_like(network)
    sizes: list[int] = []
    for module in probe.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _m, _i, output: sizes.append(output.numel()))
    with torch.no_grad():
        probe(torch.empty(2, 3, height, width, device="meta"))
    return sum(sizes) // 2 * bytes_each


def build_like(network: nn.Module) -> nn.Module:
    """Return a copy of `network` without data."""
    return copy.deepcopy(network).to("meta")


def estimated_bytes(session: Session) -> dict[str, int]:
    """Return what the run holds in memory on its device, by kind."""
    truth, training = session.truth, session.training
    tests = [split for split in (truth.clean_test, truth.triggered_test) if split is not None]
    images = size_of(training.images, *(split.images for split in tests))
    weights = size_of(*session.network.parameters()) * TRAINED_COPIES
    height, width = session.test_chain.output_size
    element = 2 if session.engine.bf16 else 4
    one = feature_bytes(session.network, height, width, element)
    epochs = range(session.config.num_epochs)
    graph = one * max(map(session.defense.images_in_step, epochs))
    evaluation = one * session.config.speed.evaluation_batch // 4
    return {"images": images, "weights": weights, "features": max(graph, evaluation)}


def describe_attack(session: Session) -> dict[str, str]:
    """Return the attack and how much it poisoned; nothing where nobody knows."""
    backdoor, training = session.config.backdoor, session.training
    if backdoor is None:
        return {}
    if session.truth.triggered_test is None:
        return {"attack": f"{backdoor.attack.name}, learnt when the run starts"}
    poisoned = session.truth.poisoned
    # Where nothing is poisoned ASR is measured all the same.
    wanted = backdoor.target_label if backdoor.label_rule == "all_to_one" else None
    count, targets = int(poisoned.sum()), given_targets(training.labels, poisoned, wanted)
    whom = f"{len(targets)} target labels"
    if len(targets) == 1:
        whom = f"target {targets[0]} ({training.classes[targets[0]]})"
    return {
        "attack": f"{backdoor.attack.name}, {whom}",
        "poisoned": f"{count} training samples ({100 * count / len(training):.2f} %)",
    }


def describe_seeds(material: Material) -> dict[str, str]:
    """Return how many samples the defence starts from, and who vouches for them."""
    if material.chosen is not None:
        return {"verified seeds": f"none; the witnesses will choose {len(material.chosen)}"}
    who = "verified seeds" if material.seeds_checked else "seeds, unchecked"
    return {who: str(len(material.seeds))}


def describe_method(session: Session) -> dict[str, str]:
    """Return the defence and its steps, or the repair and the run whose model it mends."""
    config, place = session.config, session.progress
    if config.repair.method is not None:
        source = finished_source(session.setup)
        return {"repair": f"{config.repair.method}, of the model of {source.path}"}
    steps = [session.defense.steps_in(epoch) for epoch in range(config.num_epochs)]
    return {
        "defence": config.defense,
        "steps": f"{config.num_epochs} epochs of {written(steps)}: {sum(steps):,}",
        "starts at": f"epoch {place.epoch}, step {place.step}",
    }


def written(steps: Sequence[int]) -> str:
    """Return the steps of an epoch, from the fewest to the most."""
    low, high = min(steps), max(steps)
    return str(low) if low == high else f"{low} to {high}"


def print_plan(session: Session) -> None:
    """Print data set, attack, stages, steps, device and memory."""
    config, training = session.config, session.training
    height, width = training.images.shape[1:3]
    memory = estimated_bytes(session)
    lines = {
        "data set": f"{len(training)} training and {len(session.truth.clean_test)} test images, "
        f"{width}x{height}, {training.num_classes} classes",
        **describe_attack(session),
        **describe_seeds(session.material),
        **describe_method(session),
        "network": f"{config.network.name}, "
        f"{sum(p.numel() for p in session.network.parameters()):,} weights",
        "device": str(session.engine),
        "memory": ", ".join(f"{kind} {size / 2**20:.0f} MiB" for kind, size in memory.items())
        + f"; about {sum(memory.values()) / 2**30:.2f} GiB in all, PyTorch itself aside",
        "run's folder": str(session.folder.path),
    }
    say(table(list(lines.items())))
    if config.repair.method is None:
        say(table(planned_stages(session), headers="keys"))


def planned_stages(session: Session) -> list[dict[str, str]]:
    """Return a row for each stage of the run."""
    return [
        {
            "stage": stage.name,
            "epochs": f"{stage.first_epoch} to {stage.last_epoch}",
            "clean pool": stage.clean_pool,
        }
        for stage in session.defense.plan()
        if stage.first_epoch <= stage.last_epoch
    ]

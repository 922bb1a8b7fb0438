"""Predictions that stay when BatchNorm is amplified (IBD-PSC, Hou et al., ICML 2024; written anew).

Scale and shift of the last BatchNorm layers are multiplied: small signs of a class drown in large
ones, and of a backdoored model the trigger's is the largest. From as many layers on as make most
verified samples lose their label, one more layer at a time, the samples of a label are compared
with its verified ones by how far they keep it.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from data.poison import TrainingSet
from model import Network
from witness.asking import answers_of, margins
from witness.witness import Case, Statement, Witness, deviations_from_verified, suspicion_alone

FACTOR = 1.5  # published
ERROR = 0.4  # of the verified samples, from which on samples are compared; few layers reach it
MOST = 5  # amplified models that are asked


class AmplifiedNorm(Witness):
    """Suspects samples that keep their given label under amplification; ranks only."""

    def testify(self, case: Case) -> Statement:
        """Return how far each sample keeps its label, by the verified ones; a pass a model."""
        layers = len(norms(case.reference.network))
        suspicion = torch.zeros(len(case.labels))
        if not layers:
            return suspicion_alone(suspicion)  # a network without BatchNorm
        first = first_level(case, layers)
        levels = range(first, min(first + MOST, layers + 1))
        for level in levels:
            logits = answers_of(case, "amplified", amplified(case.reference.network, level))
            # Logits grow with the level, so they are made comparable before they are added.
            suspicion += deviations_from_verified(margins(logits, case.labels), case)
        asked = len(levels) + first * len(case.seeds) / len(case.labels)
        return suspicion_alone(suspicion / len(levels), cost=asked)


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the BatchNorm layers that have a scale, in the order in which they were made."""
    found = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    return [part for part in found if part.affine]


@torch.no_grad()
def amplified(network: Network, level: int) -> Network:
    """Return a copy whose last `level` BatchNorm layers are amplified."""
    changed = copy.deepcopy(network)
    for layer in norms(changed)[-level:]:
        layer.weight.mul_(FACTOR)
        layer.bias.mul_(FACTOR)
    return changed


def first_level(case: Case, layers: int) -> int:
    """Return how many layers make the verified samples lose their labels; at most all of them."""
    labels = case.labels[case.seeds]
    if not len(labels):
        return layers
    few = verified_alone(case)
    for level in range(1, layers):
        logits = answers_of(few, "amplified", amplified(case.reference.network, level))
        if error_of(logits, labels) >= ERROR:
            return level
    return layers


def error_of(logits: Tensor, labels: Tensor) -> float:
    """Return the share of (n, C) logits whose largest is not that of the label (n,)."""
    return float((logits.argmax(dim=1) != labels).double().mean())


def verified_alone(case: Case) -> Case:
    """Return a case of the verified samples; only its ground and its network may be asked."""
    training = case.ground.training
    seeds = case.seeds.to(training.labels.device)
    images = training.images[seeds.to(training.images.device)].to(training.labels.device)
    few = TrainingSet(images, training.labels[seeds], training.classes)
    ground = replace(case.ground, training=few)
    return Case(ground, case.labels[case.seeds], torch.arange(len(seeds)), case.reference)

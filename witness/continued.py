"""Copies of the plain model that go on learning, with other samples or labels than it was given."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from data.feed import Feed, consecutive
from model import Network
from utils.streams import Purpose
from witness.witness import Case

FORGOTTEN = 6.0  # nats, from which on a label is unlearnt enough
TRAINING_PASSES = 3.0  # what a sample costs in training, forward and backward, in forward passes


@dataclass(frozen=True)
class Lesson:
    """What a copy is taught, batch by batch.

    Attributes:
        samples: (steps, b) int64.
        labels: (steps, b) int64, what each shall be called.
        weights: (steps, b) float32, of their losses; below 0: the label is unlearnt.
        rate: of Adam.
    """

    samples: Tensor
    labels: Tensor
    weights: Tensor
    rate: float

    def cost(self, case: Case) -> float:
        """Return how many passes over the training set it takes."""
        return TRAINING_PASSES * self.samples.numel() / len(case.labels)


def taught(case: Case, lesson: Lesson, augmentation: Purpose, number: int = 0) -> Network:
    """Return a copy of the plain model after a step on each batch of the lesson, augmented.

    Args:
        case: the samples and the plain model, which stays as it is.
        lesson: what is taught.
        augmentation: the stream of the views' random numbers.
        number: of the copy, where there are several; each has a stream of its own.
    """
    ground, engine = case.ground, case.reference.engine
    device, size = engine.device, lesson.samples.shape[1]
    order, labels = lesson.samples.flatten().to(device), lesson.labels.flatten().to(device)
    weights = lesson.weights.flatten().to(device)
    network = copy.deepcopy(case.reference.network).train()
    optimizer = torch.optim.Adam(network.parameters(), lesson.rate)
    draws = ground.chain.draw(len(order), ground.streams.torch(augmentation, number))
    parts = consecutive(0, len(order), size)
    for part, (images, index) in zip(parts, Feed(ground.training, order, parts), strict=True):
        views = ground.chain.view(images, index, draws[part].to(device))
        with engine.autocast():
            logits = network(views)
        losses = functional.cross_entropy(logits.float(), labels[part], reduction="none")
        weight = weights[part]
        losses = torch.where(weight < 0, losses.clamp_max(FORGOTTEN), losses)
        optimizer.zero_grad(set_to_none=True)
        ((weight * losses).sum() / weight.abs().sum()).backward()
        optimizer.step()
    return network.eval()

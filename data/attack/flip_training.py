"""How FLIP's attacker learns: an expert, the points of its way, and labels; see `data.attack.flip`.

A student at a point of the expert's way takes one step on clean images with soft labels, the expert
one on its own poisoned batch. The labels descend on the squared distance between where the two
arrive, in units of the expert's step; the gradient flows through the student's step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.optim import SGD

from data.attack.attack import AttackContext
from data.attack.learning import (
    LearningSettings,
    augmentation,
    build_classifier,
    descend,
    judged,
    share_predicted,
    shuffled,
    statistics,
)
from data.dataset import ImageData, Split
from data.transform import Chain
from model import NetworkChoice
from utils.console import percent, progress, say
from utils.resumable import HasState, train_resumably
from utils.section import contradiction

MOMENTUM, DECAY = 0.9, 2e-4  # of the expert's SGD, with Nesterov's step, as published
LABEL_MOMENTUM = 0.5  # of the labels' SGD, as published
SURE = 5.0  # logit of a label that nothing has moved yet; the others' are 0
WEAK = 0.8  # ASR of the expert, below which its way leads nowhere
Arrays = dict[str, Tensor]


class FlipSettings(LearningSettings):
    """How the labels are found; the attack says what each key means."""

    network: NetworkChoice = Field(default={"fastnet": {"width": 32}}, validate_default=True)
    batch_size: int = Field(default=256, ge=2)
    trigger: Literal["stripes", "corners", "pixel"] = "stripes"
    amplitude: float = Field(default=6.0, gt=0, le=255)
    copies: float = Field(default=0.1, gt=0, le=1)
    epochs: int = Field(default=20, ge=1)
    used_epochs: int = Field(default=15, ge=1)
    states: int = Field(default=4, ge=1, le=100)
    rate: float = Field(default=0.1, gt=0)
    label_epochs: int = Field(default=15, ge=1)
    label_rate: float = Field(default=150.0, gt=0)

    @model_validator(mode="after")
    def _uses_what_there_is(self) -> FlipSettings:
        if self.used_epochs > self.epochs:
            why = f"{self.used_epochs} of {self.epochs} epochs cannot be used; lower it"
            raise contradiction("backdoor.flip.used_epochs", "backdoor.flip.epochs", why)
        return self


class Way:
    """Points of the expert's way: weights, BatchNorm statistics, momentum; a part that is kept."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.points: list[dict[str, Arrays]] = []

    def note(self, network: nn.Module, optimizer: SGD) -> None:
        """Add where the expert is now; without a step yet, its momentum is 0."""
        weights = {name: value.detach().clone() for name, value in network.named_parameters()}
        momentum = {}
        for name, value in network.named_parameters():
            kept = optimizer.state.get(value, {}).get("momentum_buffer")
            momentum[name] = torch.zeros_like(value) if kept is None else kept.detach().clone()
        buffers = {name: value.detach().clone() for name, value in network.named_buffers()}
        self.points.append({"weights": weights, "buffers": buffers, "momentum": momentum})

    def state_dict(self) -> dict[str, Any]:
        """Return all points."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: Any) -> None:
        """Go back to those."""
        self.points = []
        for point in state_dict["points"]:
            self.points.append({kind: on(self.device, arrays) for kind, arrays in point.items()})


def on(device: torch.device, arrays: Arrays) -> Arrays:
    """Return the same on `device`."""
    return {name: value.to(device) for name, value in arrays.items()}


class Labels(nn.Module):
    """Soft labels: (N, C) logits, which start at the true ones."""

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(SURE * functional.one_hot(labels, num_classes).float())


def advance(labels: Labels, loss: Tensor, optimizer: SGD) -> None:
    """Let the labels, and nothing else that `loss` depends on, take a step down its gradient."""
    (labels.logits.grad,) = torch.autograd.grad(loss, [labels.logits])
    optimizer.step()


def descended(point: Mapping[str, Arrays], gradients: Mapping[str, Tensor], rate: float) -> Arrays:
    """Return the weights after one SGD step from a point, as the expert's optimiser takes it."""
    found = {}
    for name, weight in point["weights"].items():
        gradient = gradients[name] + DECAY * weight
        velocity = MOMENTUM * point["momentum"][name] + gradient
        found[name] = weight - rate * (gradient + MOMENTUM * velocity)
    return found


def squared_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    """Return the squared distance of two sets of weights, a scalar."""
    return torch.stack([(first[name] - second[name]).square().sum() for name in first]).sum()


class Training:
    """Both stages of the training.

    Args:
        settings: of the attack.
        context: for labels and random numbers.
        data: the clean data set.
        trigger: puts the trigger on images (n, H, W, 3) uint8.
        device: where the network is trained.
    """

    def __init__(
        self,
        settings: FlipSettings,
        context: AttackContext,
        data: ImageData,
        trigger: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self.settings, self.context, self.trigger = settings, context, trigger
        train, normalize = data.train, statistics(data.train.images)
        self.chain = augmentation(settings, normalize, context, "backdoor.flip")
        self.plain = Chain([], normalize, context.height, context.width)
        copied = self.copied(train)
        self.clean, self.true = train.images.to(device), train.labels.to(device)
        shown = trigger(train.images[copied]).to(device)
        self.images = torch.cat([self.clean, shown])  # what the expert sees: all, and the copies
        given = context.rule.relabel(train.labels[copied])
        self.labels = torch.cat([train.labels, given]).to(device)
        self.source = torch.cat([torch.arange(len(train.labels)), copied]).to(device)
        self.network = build_classifier(settings.network, data.num_classes, context.streams, device)
        colours = torch.tensor(normalize.mean), torch.tensor(normalize.std)
        self.network.fit_input(train.images, *colours)
        self.way = Way(device)

    def copied(self, train: Split) -> Tensor:
        """Return which training images are copied, of those that the attack may relabel."""
        generator = self.context.streams.torch("attack")
        candidates = torch.nonzero(self.context.rule.attackable(train.labels)).flatten()
        count = max(1, round(self.settings.copies * len(train.labels)))
        return candidates[torch.randperm(len(candidates), generator=generator)[:count]]

    def train_expert(self, path: Path) -> None:
        """Train the expert on all images and the triggered copies; note points of its way."""
        given, network = self.settings, self.network
        sgd = SGD(network.parameters(), given.rate, MOMENTUM, weight_decay=DECAY, nesterov=True)

        def train_epoch(epoch: int) -> None:
            network.train()
            stream = self.context.streams.torch("attack-training", epoch)
            batches = list(shuffled(len(self.images), given.batch_size, stream))
            noted = points_of(len(batches), given.states) if epoch < given.used_epochs else set()

            def loss_of(number: int) -> Tensor:
                if number in noted:
                    self.way.note(network, sgd)
                images, labels, _ = self.pair(batches[number], stream)
                return functional.cross_entropy(network(images), labels)

            shown = progress(range(len(batches)), "expert", unit="step")
            descend(shown, loss_of, "flip, expert", sgd)

        parts: dict[str, HasState] = {"network": network, "sgd": sgd, "way": self.way}
        train_resumably(path, parts, given.epochs, train_epoch)
        network.eval()

    def pair(self, index: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same views of a batch as the expert sees it, its labels, and the clean ones.

        Args:
            index: (n,) int64, of all images and copies.
            stream: for the augmentation.

        Returns:
            (n, 3, H, W) float32; (n,) int64; (n, 3, H, W) float32.
        """
        index = index.to(self.images.device)
        draws = self.chain.draw(len(index), stream).to(self.images.device)
        seen = self.chain.view(self.images, index, draws).contiguous()
        clean = self.chain.view(self.clean, self.source[index], draws).contiguous()
        return seen, self.labels[index], clean

    def report(self, test: Split) -> None:
        """Say how well the expert knows the backdoor, on (some of) the test images."""
        (images, labels), rule = judged(test), self.context.rule
        attacked = rule.attackable(labels)
        shown, wanted = self.trigger(images[attacked]), rule.relabel(labels[attacked])
        acc = share_predicted(self.network, images, labels, self.plain)
        asr = share_predicted(self.network, shown, wanted, self.plain)
        say(f"flip: the expert: ACC {percent(acc)}, ASR {percent(asr)}")
        if asr is not None and asr < WEAK:
            say("flip: the expert is weak; more backdoor.flip.epochs make it stronger")

    def train_labels(self, path: Path) -> Tensor:
        """Learn the labels; return their logits (N, C) float32 on the CPU."""
        given = self.settings
        labels = Labels(self.true, self.context.rule.num_classes).to(self.images.device)
        sgd = SGD(labels.parameters(), given.label_rate, momentum=LABEL_MOMENTUM)
        self.network.train()

        def train_epoch(epoch: int) -> None:
            # The expert's epochs come first in the stream of epochs.
            stream = self.context.streams.torch("attack-training", given.epochs + epoch)
            batches = list(shuffled(len(self.images), given.batch_size, stream))
            points = torch.randint(len(self.way.points), (len(batches),), generator=stream)
            pairs = list(zip(batches, points.tolist(), strict=True))
            for index, place in progress(pairs, "labels", unit="step"):
                point = self.way.points[place]
                advance(labels, self.mismatch(labels.logits, index, point, stream), sgd)

        train_resumably(path, {"labels": labels, "sgd": sgd}, given.label_epochs, train_epoch)
        return labels.logits.detach().cpu()

    def mismatch(
        self, logits: Tensor, index: Tensor, point: Mapping[str, Arrays], stream: torch.Generator
    ) -> Tensor:
        """Return how far the student's step ends from the expert's, in units of the latter's.

        Args:
            logits: (N, C) of the labels, which get the gradient.
            index: (n,) int64, the batch, of all images and copies.
            point: from which both start.
            stream: for the augmentation.
        """
        images, labels, clean = self.pair(index, stream)
        own = logits[self.source[index.to(logits.device)]].softmax(dim=1)
        hard = functional.one_hot(labels, logits.shape[1]).to(images.dtype)
        rate = self.settings.rate
        expert = descended(point, self.gradients(images, hard, point, follow=False), rate)
        student = descended(point, self.gradients(clean, own, point, follow=True), rate)
        whole = squared_distance(point["weights"], expert).clamp_min(1e-12)
        return squared_distance(student, expert) / whole

    def gradients(
        self, images: Tensor, labels: Tensor, point: Mapping[str, Arrays], follow: bool
    ) -> Arrays:
        """Return the gradient of each weight at a point.

        Args:
            images: (n, 3, H, W) float32.
            labels: (n, C) float32, shares of each class.
            point: where.
            follow: whether the gradient itself shall have a gradient.
        """
        weights = {name: value.requires_grad_(True) for name, value in fresh(point["weights"])}
        buffers = dict(fresh(point["buffers"]))  # BatchNorm notes the batch in these
        logits = functional_call(self.network, {**weights, **buffers}, (images,))
        loss = functional.cross_entropy(logits, labels)
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=follow)
        return dict(zip(weights, found, strict=True))


def fresh(arrays: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Return copies by name."""
    return [(name, value.detach().clone()) for name, value in arrays.items()]


def points_of(batches: int, states: int) -> set[int]:
    """Return the steps of an epoch before which a point is noted, evenly spread."""
    return {batches * (number + 1) // (states + 1) for number in range(states)}

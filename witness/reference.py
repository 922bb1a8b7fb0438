"""The reference: a small plain model of all samples with their given labels, backdoor and all.

What a defence wants to avoid it learns at once, and so it tells where the poison is. It is trained
once for the same data and settings, and kept; a training that is killed goes on with the same bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from data.feed import Feed, consecutive
from data.transform import Chain
from model import NETWORKS, Network, NetworkChoice, build_network, check_size
from model.place import place_network
from training.ground import Ground
from training.passes import Pass, answers
from training.rate import Rate, RateSettings
from utils.console import say
from utils.contents import contents_of
from utils.engine import Engine, choose_engine
from utils.errors import InputError
from utils.resumable import HasState, train_resumably
from utils.section import Section
from utils.world import ALONE

VERSION = 1  # of what is kept; raised when another training would come out
MEMORY_BATCH = 2**20  # images whose bytes are hashed at a time


class ReferenceSettings(Section):
    """`witness.reference`: how the plain model is trained.

    At least `epochs` epochs and at least `steps` steps, Adam with a rate that rises for a fifth of
    them to `rate` and falls to 0.
    """

    network: NetworkChoice = Field(default={"fastnet": {"width": 16}}, validate_default=True)
    epochs: int = Field(default=8, ge=1)
    steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=128, ge=2)
    rate: float = Field(default=0.005, gt=0)


@dataclass(frozen=True)
class Reference:
    """What the plain model says of the N training samples; tensors on the CPU.

    Attributes:
        network: the model, in eval mode, on the device.
        engine: how it computes.
        chain: the plain views on which it was asked.
        logits: (N, C) float32.
        features: (N, F) float32, what its linear layer sees.
        losses: (E, N) float32, cross entropy for the given labels during each epoch of its
            training, as it came by; the first is the earliest.
        loss: (N,) float32, the same of the finished model.
    """

    network: Network
    engine: Engine
    chain: Chain
    logits: Tensor
    features: Tensor
    losses: Tensor
    loss: Tensor


class Losses:
    """The losses of each sample as it came by in each epoch; a part of what is kept."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epochs: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Return all of them."""
        return {"epochs": list(self.epochs)}

    def load_state_dict(self, state_dict: Any) -> None:
        """Go back to those.

        Raises:
            ValueError: they are not a finite number for each sample and epoch.
        """
        epochs = list(state_dict["epochs"])
        for losses in epochs:
            if losses.shape != (self.count,) or not bool(losses.isfinite().all()):
                raise ValueError(f"losses of {self.count} samples are expected")
        self.epochs = epochs


def find_reference(settings: ReferenceSettings, ground: Ground, cache: Path) -> Reference:
    """Return the reference of the data, trained now or before.

    Of several processes the first trains, alone; the others read what it has kept.

    Args:
        settings: of its training.
        ground: samples, streams, device, the augmentation of its training, and the plain views on
            which the finished model is asked.
        cache: folder in which references are kept.

    Raises:
        InputError: what is kept there is no reference.
    """
    network = build(settings, ground)
    engine = place(network, ground.engine)
    path = cache / f"reference-{key_of(settings, ground, engine)}.pt"
    losses = Losses(len(ground.training))
    optimizer = torch.optim.Adam(network.parameters(), settings.rate, fused=True)
    parts: Mapping[str, HasState] = {"network": network, "adam": optimizer, "losses": losses}
    trainer = Trainer(settings, replace(ground, engine=engine), network, optimizer, losses)
    with ground.engine.world.one_after_the_other():
        if not path.exists():
            say("reference: a plain model of all samples is trained, to compare with")
        train_resumably(path, parts, trainer.epochs, trainer.train)
    if len(losses.epochs) != trainer.epochs:
        raise InputError(f"{path}: epochs are missing; remove it, and it is learnt anew")
    plain = ground.seen(augmented=False)
    logits, features = ask(network, ground, plain, engine)
    labels = ground.training.labels.cpu()
    loss = functional.cross_entropy(logits, labels, reduction="none")
    return Reference(network, engine, plain, logits, features, torch.stack(losses.epochs), loss)


def check_reference(settings: ReferenceSettings, ground: Ground) -> None:
    """Refuse, before a run begins, a network that takes no images of the views' sizes.

    Raises:
        InputError: it takes none.
    """
    network, where = untrained(settings, ground), "witness.reference.network"
    for chain in (ground.chain, ground.seen(augmented=False)):
        check_size(network, f"{where}.{settings.network.name}", *chain.output_size)


def untrained(settings: ReferenceSettings, ground: Ground) -> Network:
    """Return the network before it has seen anything, on the CPU."""
    choice, state = settings.network, ground.streams.state("reference-network")
    kind, classes = NETWORKS.get(choice.name), ground.training.num_classes
    return build_network(kind, choice.settings, classes, state)


def build(settings: ReferenceSettings, ground: Ground) -> Network:
    """Return the untrained network, fitted to the images, on the CPU."""
    network, normal = untrained(settings, ground), ground.chain.normalize
    mean, std = torch.tensor(normal.mean), torch.tensor(normal.std)
    network.fit_input(ground.training.images, mean, std)
    return network


def place(network: Network, engine: Engine) -> Engine:
    """Bring the network to the run's device; return how it computes: alone, not translated.

    The precision is chosen for this network: the run's may have parts for which bf16 is slower.
    """
    speed = engine.speed.model_copy(update={"compile": False})
    own = choose_engine(engine.device, speed, network, ALONE)
    place_network(network, own)
    return own


def key_of(settings: ReferenceSettings, ground: Ground, engine: Engine) -> str:
    """Return 16 hexadecimal digits of all on which the reference depends; `engine` is its own."""
    training = ground.training
    digest = hashlib.sha256(training.labels.cpu().numpy().tobytes())
    for start in range(0, len(training), MEMORY_BATCH):
        part = training.images[start : start + MEMORY_BATCH].cpu().contiguous()
        digest.update(part.numpy().data)
    steps = [(type(step).__name__, step.settings.model_dump()) for step in ground.chain.steps]
    made_from = [VERSION, settings.model_dump(), ground.streams.seed, steps]
    made_from += [ground.chain.normalize.model_dump(), engine.device.type, engine.bf16]
    made_from += [list(training.images.shape), training.num_classes]
    files = contents_of(settings)
    made_from += [files] if files else []  # without any it is what older ones are called by
    digest.update(json.dumps(made_from, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


class Trainer:
    """Takes the epochs of the reference's training.

    Args:
        settings: of the training.
        ground: of one process.
        network, optimizer: to train.
        losses: to note.
    """

    def __init__(
        self,
        settings: ReferenceSettings,
        ground: Ground,
        network: Network,
        optimizer: torch.optim.Optimizer,
        losses: Losses,
    ) -> None:
        self.settings, self.ground = settings, ground
        self.network, self.optimizer, self.losses = network, optimizer, losses
        self.count = len(ground.training)
        self.batches = max(1, self.count // settings.batch_size)  # a rest is left for another epoch
        self.epochs = max(settings.epochs, -(-settings.steps // self.batches))
        steps = self.epochs * self.batches
        self.rate = Rate(RateSettings(warmup=max(1, steps // 5), hold=0.2), optimizer)

    def train(self, epoch: int) -> None:
        """Train an epoch; note each sample's loss as it comes by."""
        ground, size, device = self.ground, self.settings.batch_size, self.ground.engine.device
        streams = ground.streams
        order = torch.randperm(self.count, generator=streams.torch("reference-order", epoch))
        order = order.to(device)
        draws = ground.chain.draw(self.count, streams.torch("reference-augment", epoch))
        parts = consecutive(0, self.count, size)[: self.batches]
        noted = torch.full((self.count,), torch.nan, device=device)
        self.network.train()
        feed = Feed(ground.training, order, parts)
        for number, (part, (images, index)) in enumerate(zip(parts, feed, strict=True)):
            views = ground.chain.view(images, index, draws[part].to(device))
            noted[order[part]] = self._step(number + epoch * self.batches, views, order[part])
        # Those that were left for another epoch get the epoch's median.
        noted = torch.where(noted.isnan(), noted.nanmedian(), noted)
        self.losses.epochs.append(noted.cpu())

    def _step(self, step: int, views: Tensor, index: Tensor) -> Tensor:
        self.rate.set(step, self.epochs * self.batches)
        with self.ground.engine.autocast():
            logits = self.network(views)
        loss = functional.cross_entropy(
            logits, self.ground.training.labels[index], reduction="none"
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.mean().backward()
        self.optimizer.step()
        return loss.detach()


@torch.no_grad()
def ask(network: Network, ground: Ground, chain: Chain, engine: Engine) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and features (N, F) of all samples, float32, on the CPU.

    Of several processes all get the first one's.
    """
    network.eval()
    stream, size = ground.streams.torch("test"), ground.evaluation_batch
    way = Pass(chain, engine, size, "reference")
    asked = answers(network.backbone, ground.training, way, stream)
    found = [(classify(network.linear, seen), seen.float().cpu()) for _, seen in asked]
    logits, features = (torch.cat(parts) for parts in zip(*found, strict=True))
    world = ground.engine.world
    return world.from_first_process(logits), world.from_first_process(features)


def classify(linear: nn.Linear, features: Tensor) -> Tensor:
    """Return the logits (n, C) of features (n, F), in fp32, on the CPU."""
    return linear(features.to(linear.weight.dtype)).float().cpu()

"""CLB (Turner et al. 2019), label-consistent: poisoned images keep their true label, the target.

Before they get the trigger they are made hard to recognise: a small perturbation, found by gradient
ascent (PGD, Madry et al. 2018), raises the loss of their class, so that the trigger is the easier
thing to learn. It is found on a network of the attacker's, trained here on the clean training
images; if that network was itself trained against such perturbations, they carry over to others.
Test images get the trigger alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from data.attack.attack import Attack, AttackContext, SplitName
from data.attack.learning import (
    LearningSettings,
    augmentation,
    build_classifier,
    descend,
    repeatable_convolutions,
    set_rate,
    share_predicted,
    shuffled,
    statistics,
    views,
)
from data.dataset import ImageData
from data.transform import Chain, Normalize
from model import Network
from utils.console import percent, progress, say
from utils.errors import InputError
from utils.files import write_atomically
from utils.resumable import read_kept, train_resumably
from utils.section import Section

# The block in the left corners, rows from top to bottom; 1 is white. The right ones are its mirror
# image, so that a mirrored image carries the same trigger.
BLOCK = ((1, 0, 0), (0, 1, 0), (1, 0, 1))
MUCH = 0.5  # of a class: above this, few clean images are left to learn it from
CHUNK = 100  # images perturbed at once
NO_NORMALIZE = Normalize()


class Ascent(Section):
    """Projected gradient ascent: `eps` at most, in `iterations` steps; in units of 1/255."""

    eps: float = Field(gt=0, le=255)
    step: float = Field(gt=0, le=255)
    iterations: int = Field(ge=1)


class Clb(Attack):
    """`T(x) = trigger(x + perturbation)` for training images of the target, else `trigger(x)`."""

    clean_label = True
    learns = True

    class Settings(LearningSettings):
        """How much is poisoned, and how the images are perturbed.

        `class_fraction`: poisoned share of the target class. `eps` (largest change of a value),
        `step`, in units of 1/255, and `iterations`: of the perturbation. `amplitude`: of the
        trigger; 1 is black and white, less only shifts the image. `robust`: train the attacker's
        network against perturbations (`training_*`), else plainly, which is faster and weaker.
        `epochs`, `rate`: of its training; the rate falls to a tenth after 0.6 and 0.9 of it.
        """

        class_fraction: float = Field(default=0.25, gt=0, le=1)
        eps: float = Field(default=16.0, gt=0, le=255)
        step: float = Field(default=1.5, gt=0, le=255)
        iterations: int = Field(default=100, ge=1)
        amplitude: float = Field(default=1.0, gt=0, le=1)
        robust: bool = True
        epochs: int = Field(default=30, ge=1)
        rate: float = Field(default=0.1, gt=0)
        training_eps: float = Field(default=8.0, gt=0, le=255)
        training_step: float = Field(default=2.0, gt=0, le=255)
        training_iterations: int = Field(default=7, ge=1)

        def unread(self) -> dict[str, tuple[str, ...]]:
            """A plain network is trained without perturbations."""
            keys = "training_eps", "training_step", "training_iterations"
            return {} if self.robust else {"robust": keys}

    def __init__(self, settings: Section, context: AttackContext) -> None:
        super().__init__(settings, context)
        assert isinstance(settings, self.Settings)
        self.trigger = draw_corners(context.height, context.width)  # (H, W, 1) float32, -1, 0 or 1
        self.places: Tensor | None = None  # (N,) int64, rows of `changes`; -1: not of the target
        self.changes: Tensor | None = None  # (n, H, W, 3) int16

    def prepare(self, data: ImageData, device: torch.device, folder: Path) -> None:
        """Perturb all training images of the target class.

        All, not those that will be poisoned: it is little beside the training, and so the
        perturbation of an image cannot depend on which others are chosen.
        """
        given, labels = self.settings, data.train.labels
        members = torch.nonzero(labels == self.context.rule.target_label).flatten()
        if given.class_fraction > MUCH:
            say(
                f"clb: backdoor.clb.class_fraction: {given.class_fraction} leaves few clean images "
                f"of the target class"
            )
        attacker = Attacker(given, self.context, data, device)
        attacker.train(folder / "classifier.pt")
        images = data.train.images[members]
        changes = read_kept(folder / "perturbation.pt")
        if not fits(changes, images):
            changes = attacker.perturbations(images, labels[members])
            write_atomically(folder / "perturbation.pt", lambda file: torch.save(changes, file))
        self.places = torch.full((len(labels),), -1)
        self.places[members] = torch.arange(len(members))
        self.changes = changes
        attacker.report(data, members, changes)

    def apply(self, images: Tensor, indices: Tensor, split: SplitName) -> Tensor:
        """Return `images` (N, H, W, 3) uint8 with the trigger; perturbed first in "train"."""
        values = images.int()
        if split == "train":
            assert self.places is not None and self.changes is not None, "prepare() comes first"
            places = self.places[indices]
            assert not len(places) or int(places.min()) >= 0, "only the target class is poisoned"
            values = (values + self.changes[places]).clamp(0, 255)
        shifted = values + 255 * self.settings.amplitude * self.trigger
        return shifted.round().clamp(0, 255).to(torch.uint8)


def fits(changes: Any, images: Tensor) -> bool:
    """Return whether what was kept are changes (n, H, W, 3) int16 of the images."""
    is_changes = isinstance(changes, Tensor) and changes.dtype == torch.int16
    return is_changes and changes.shape == images.shape


def draw_corners(height: int, width: int) -> Tensor:
    """Return the trigger's signs (height, width, 1) float32: 1 white, -1 black, 0 elsewhere.

    Raises:
        InputError: the corners would overlap.
    """
    size = len(BLOCK)
    if min(height, width) < 2 * size:
        raise InputError(
            f"backdoor.clb: the images are {width}x{height} pixels, and its trigger needs "
            f"{2 * size}x{2 * size}; choose another attack"
        )
    block = 2 * torch.tensor(BLOCK, dtype=torch.float32) - 1
    signs = torch.zeros(height, width)
    for rows in (slice(0, size), slice(height - size, height)):
        signs[rows, :size] = block
        signs[rows, width - size :] = block.flip(1)
    return signs[..., None]


class Normalised(nn.Module):
    """A classifier of images in 0..1, in which perturbations are measured.

    Args:
        network: takes normalised images.
        normalize: how they are.
    """

    def __init__(self, network: Network, normalize: Normalize) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(normalize.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(normalize.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in 0..1 to logits (N, num_classes)."""
        return self.network((images - self.mean) / self.std)


def ascend(
    network: nn.Module, images: Tensor, labels: Tensor, ascent: Ascent, start: Tensor
) -> Tensor:
    """Return images that the network likes less as `labels` than the given ones.

    Args:
        network: in eval mode, so that an image's gradient does not depend on the others.
        images: (n, 3, H, W) float32 in 0..1.
        labels: (n,) int64.
        ascent: how far, and in which steps.
        start: (n, 3, H, W) float32 in 0..1, at most `ascent.eps` away.

    Returns:
        (n, 3, H, W) float32 in 0..1, at most `ascent.eps` / 255 from `images` in each value.
    """
    eps, step_size = ascent.eps / 255, ascent.step / 255
    low, high = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
    found = start.detach()
    for _ in range(ascent.iterations):
        found.requires_grad_(True)
        loss = functional.cross_entropy(network(found), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, found)
        with torch.no_grad():
            found = (found + step_size * gradient.sign()).maximum(low).minimum(high)
    return found.detach()


class Attacker:
    """The attacker's network: its training, and what it is used for.

    Args:
        settings: of the attack.
        context: for random numbers.
        data: the clean data set.
        device: where the network is trained.
    """

    def __init__(
        self, settings: Clb.Settings, context: AttackContext, data: ImageData, device: torch.device
    ) -> None:
        self.settings, self.context = settings, context
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        classifier = build_classifier(settings.network, data.num_classes, context.streams, device)
        self.network = Normalised(classifier, statistics(data.train.images)).to(device)
        self.chain = augmentation(settings, NO_NORMALIZE, context, "backdoor.clb")
        self.plain = Chain([], NO_NORMALIZE, context.height, context.width)

    def train(self, path: Path) -> None:
        """Train the network on the clean training images, against perturbations or plainly."""
        given, network = self.settings, self.network
        if not given.robust:
            say("clb: robust: false; perturbations of a plain network carry over less")
        optimizer = SGD(network.parameters(), given.rate, momentum=0.9, weight_decay=5e-4)

        def train_epoch(epoch: int) -> None:
            set_rate(optimizer, given.rate, epoch, given.epochs)
            stream = self.context.streams.torch("attack-training", epoch)
            batches = list(shuffled(len(self.images), given.batch_size, stream))
            shown = progress(batches, "classifier", unit="step")
            descend(shown, lambda index: self.training_loss(index, stream), "clb", optimizer)

        train_resumably(path, {"network": network, "sgd": optimizer}, given.epochs, train_epoch)
        network.eval()

    def training_loss(self, index: Tensor, stream: torch.Generator) -> Tensor:
        """Return the loss of the samples `index` (n,), perturbed where the network is robust."""
        images = views(self.chain, self.images, index, stream)
        labels = self.labels[index.to(self.labels.device)]
        if self.settings.robust:
            images = self.perturbed(images, labels, stream)
        self.network.train()
        return functional.cross_entropy(self.network(images), labels)

    def perturbed(self, images: Tensor, labels: Tensor, stream: torch.Generator) -> Tensor:
        """Return training views made harder, from a random start, as Madry et al. do."""
        given = self.settings
        count = given.training_iterations
        ascent = Ascent(eps=given.training_eps, step=given.training_step, iterations=count)
        noise = 2 * torch.rand(images.shape, generator=stream).to(images.device) - 1
        start = (images + ascent.eps / 255 * noise).clamp(0, 1)
        self.network.eval()
        return ascend(self.network, images, labels, ascent, start)

    def perturbations(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what to add to images (n, H, W, 3) uint8 so that they look less like `labels`.

        Rounded, and then clipped again: no value is changed by more than `eps`.

        Returns:
            (n, H, W, 3) int16.
        """
        given, device = self.settings, self.images.device
        ascent = Ascent(eps=given.eps, step=given.step, iterations=given.iterations)
        most, changes = int(given.eps), []
        self.network.eval().requires_grad_(False)
        with repeatable_convolutions():
            pairs = list(zip(images.split(CHUNK), labels.split(CHUNK), strict=True))
            for part, part_labels in progress(pairs, "perturbations", unit="batch"):
                nothing = torch.Generator()
                plain = views(self.plain, part.to(device), torch.arange(len(part)), nothing)
                found = ascend(self.network, plain, part_labels.to(device), ascent, plain)
                values = (255 * found).round().permute(0, 2, 3, 1).cpu()
                changes.append((values - part).clamp(-most, most).to(torch.int16))
        return torch.cat(changes) if changes else torch.zeros(images.shape, dtype=torch.int16)

    def report(self, data: ImageData, members: Tensor, changes: Tensor) -> None:
        """Say how good the attacker's network is, and what the perturbations do to it."""
        images, labels = data.train.images[members], data.train.labels[members]
        harder = (images.int() + changes).clamp(0, 255).to(torch.uint8)
        acc = share_predicted(self.network, data.test.images, data.test.labels, self.plain)
        before, after = (
            share_predicted(self.network, part, labels, self.plain) for part in (images, harder)
        )
        say(
            f"clb: the attacker's network: ACC {percent(acc)}; it recognises {percent(before)} of "
            f"the target's training images, {percent(after)} of them once perturbed"
        )

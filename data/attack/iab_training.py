"""How IAB's attacker learns: masks, generator, a classifier; see `data.attack.iab`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD, Adam

from data.attack.attack import MOST_CROSS, AttackContext
from data.attack.autoencoder import AutoEncoder, bounded, build_autoencoder, thresholded
from data.attack.learning import (
    LearningSettings,
    augmentation,
    build_classifier,
    colours,
    descend,
    judged,
    repeatable_convolutions,
    set_rate,
    share_predicted,
    shuffled,
    statistics,
    views,
)
from data.dataset import ImageData, Split
from data.transform import Chain, Normalize
from utils.console import percent, progress, say
from utils.resumable import HasState, train_resumably

BETAS = (0.5, 0.9)  # of Adam, as published
WEAK = 0.8  # ASR on the attacker's own classifier, below which the attack has not been learnt


class IabSettings(LearningSettings):
    """How the networks are trained; the attack says what each key means."""

    mask_epochs: int = Field(default=25, ge=1)
    epochs: int = Field(default=60, ge=1)
    mask_rate: float = Field(default=0.01, gt=0)
    generator_rate: float = Field(default=0.01, gt=0)
    classifier_rate: float = Field(default=0.01, gt=0)
    share: float = Field(default=0.1, gt=0, le=0.5)
    density: float = Field(default=0.032, ge=0, le=1)
    density_weight: float = Field(default=100.0, ge=0)
    diversity_weight: float = Field(default=1.0, ge=0)
    width: int = Field(default=32, ge=1, le=1024)
    cross: float = Field(default=1.0, ge=0, le=MOST_CROSS)


@dataclass
class Trigger:
    """Generator and masks, in eval mode where they are used.

    Attributes:
        generator: gives a pattern.
        masks: give a mask.
        normalize: of their input, and of the pattern in training.
        device: where they are.
    """

    generator: AutoEncoder
    masks: AutoEncoder
    normalize: Normalize
    device: torch.device

    def pattern(self, images: Tensor) -> Tensor:
        """Return the normalised patterns (n, 3, H, W) for normalised images."""
        mean, std = colours(self.normalize, self.device)
        return (bounded(self.generator(images)) - mean) / std

    @torch.no_grad()
    def put_on_bytes(self, images: Tensor, others: Tensor) -> Tensor:
        """Return `images` with the triggers of `others`, all (n, H, W, 3) uint8, rounded."""
        self.generator.eval()
        self.masks.eval()
        chain = Chain([], self.normalize, *images.shape[1:3])
        index = torch.arange(len(images))
        seen = views(chain, others.to(self.device), index, torch.Generator())
        pattern = 255 * bounded(self.generator(seen)).permute(0, 2, 3, 1)
        mask = thresholded(self.masks(seen)).permute(0, 2, 3, 1)  # (n, H, W, 1)
        plain = images.to(self.device).float()
        return (plain + (pattern - plain) * mask).round().clamp(0, 255).to(torch.uint8).cpu()

    def put_one_by_one(self, images: Tensor, others: Tensor) -> Tensor:
        """Return the same, image by image.

        In a batch the last bits of a convolution may depend on its size and on an image's place in
        it, and a value may round the other way. The bytes of a trigger must not depend on that.
        """
        if not len(images):
            return images.clone()
        with repeatable_convolutions():
            pairs = zip(images.split(1), others.split(1), strict=True)
            shown = progress(pairs, "triggers", unit="image")
            return torch.cat([self.put_on_bytes(image, other) for image, other in shown])


@dataclass(frozen=True)
class Batch:
    """Two batches of training images in independent orders.

    Attributes:
        images, others: (B, 3, H, W) float32, augmented and normalised.
        labels: (B,) int64, of `images`.
        index, other_index: (B,) int64, of the images in the training set.
    """

    images: Tensor
    labels: Tensor
    others: Tensor
    index: Tensor
    other_index: Tensor


class Training:
    """Both stages of the training, and a look at the result.

    Args:
        settings: of the attack.
        context: for labels and random numbers.
        data: the clean data set.
        device: where the networks are trained.
    """

    def __init__(
        self, settings: IabSettings, context: AttackContext, data: ImageData, device: torch.device
    ) -> None:
        self.settings, self.context = settings, context
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        normalize = statistics(data.train.images)
        self.chain = augmentation(settings, normalize, context, "backdoor.iab")
        self.plain = Chain([], normalize, context.height, context.width)
        state = context.streams.state
        generator, masks = (
            build_autoencoder(channels, settings.width, state("attack-network", number)).to(device)
            for number, channels in ((1, 3), (2, 1))
        )
        self.trigger = Trigger(generator, masks, normalize, device)
        self.classifier = build_classifier(
            settings.network, data.num_classes, context.streams, device
        )

    def train_masks(self, path: Path) -> None:
        """Stage 1: masks that cover little, and differ as much as the images do."""
        given, masks = self.settings, self.trigger.masks
        optimizer = Adam(masks.parameters(), lr=given.mask_rate, betas=BETAS)

        def train_epoch(epoch: int) -> None:
            set_rate(optimizer, given.mask_rate, epoch, given.mask_epochs)
            masks.train()
            descend(self.batches(epoch, "masks"), self.mask_loss, "iab, masks", optimizer)

        train_resumably(path, {"masks": masks, "adam": optimizer}, given.mask_epochs, train_epoch)
        masks.eval().requires_grad_(False)

    def train_generator(self, path: Path) -> None:
        """Stage 2: a generator, and a classifier that learns its triggers."""
        given, generator, classifier = self.settings, self.trigger.generator, self.classifier
        adam = Adam(generator.parameters(), lr=given.generator_rate, betas=BETAS)
        sgd = SGD(classifier.parameters(), given.classifier_rate, momentum=0.9, weight_decay=5e-4)

        def train_epoch(epoch: int) -> None:
            set_rate(adam, given.generator_rate, epoch, given.epochs)
            set_rate(sgd, given.classifier_rate, epoch, given.epochs)
            generator.train()
            classifier.train()
            batches = self.batches(given.mask_epochs + epoch, "generator")
            descend(batches, self.generator_loss, "iab, generator", adam, sgd)

        parts: dict[str, HasState] = {"generator": generator, "classifier": classifier}
        parts |= {"adam": adam, "sgd": sgd}
        train_resumably(path, parts, given.epochs, train_epoch)
        generator.eval()
        classifier.eval()

    def batches(self, epoch: int, what: str) -> Iterator[Batch]:
        """Yield an epoch's batches; epochs of the second stage are counted on from the first."""
        stream, device = self.context.streams.torch("attack-training", epoch), self.images.device
        size = self.settings.batch_size
        pairs = list(
            zip(*(shuffled(len(self.images), size, stream) for _ in range(2)), strict=True)
        )
        for index, other_index in progress(pairs, what, unit="step"):
            index, other_index = index.to(device), other_index.to(device)
            images, others = (
                views(self.chain, self.images, part, stream) for part in (index, other_index)
            )
            yield Batch(images, self.labels[index], others, index, other_index)

    def mask_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the masks: what they cover, and how alike they are."""
        given = self.settings
        mask, other = (thresholded(self.trigger.masks(x)) for x in (batch.images, batch.others))
        cover = functional.relu(mask - given.density).mean()
        differ = batch.index != batch.other_index
        likeness = alike(batch.images, batch.others, mask, other, differ)
        return given.density_weight * cover + given.diversity_weight * likeness

    def generator_loss(self, batch: Batch) -> Tensor:
        """Return the loss of classifier and generator.

        The first images of the batch get their own triggers and the attacker's labels; as many
        others get triggers of other images and keep their labels; the rest is clean.
        """
        given, trigger, images = self.settings, self.trigger, batch.images
        count = max(1, int(given.share * len(images)))
        own, crossed = slice(0, count), slice(count, 2 * count)
        sources = torch.cat([images[own], batch.others[crossed]])
        with torch.no_grad():
            masks = thresholded(trigger.masks(sources))
        patterns = trigger.pattern(sources)
        changed = images[: 2 * count]
        changed = changed + (patterns - changed) * masks
        labels = torch.cat([self.context.rule.relabel(batch.labels[own]), batch.labels[count:]])
        logits = self.classifier(torch.cat([changed, images[2 * count :]]))
        differ = batch.index[own] != batch.other_index[crossed]
        first, second, mine, yours = *sources.chunk(2), *patterns.chunk(2)
        likeness = alike(first, second, mine, yours, differ)
        return functional.cross_entropy(logits, labels) + given.diversity_weight * likeness

    def report(self, test: Split) -> None:
        """Say how the attacker's own classifier does on (some of) the test images."""
        (images, labels), rule = judged(test), self.context.rule
        own, crossed = (
            torch.cat(
                [
                    self.trigger.put_on_bytes(*pair)
                    for pair in zip(images.split(250), others.split(250), strict=True)
                ]
            )
            for others in (images, images.roll(1, dims=0))
        )
        attacked = rule.attackable(labels)
        asr = self.share(own[attacked], rule.relabel(labels[attacked]))
        acc, cross = self.share(images, labels), self.share(crossed, labels)
        say(
            f"iab: the attacker's own classifier: ACC {percent(acc)}, ASR {percent(asr)}, "
            f"accuracy under another image's trigger {percent(cross)}"
        )
        if asr is not None and asr < WEAK:
            say("iab: the triggers are weak; more backdoor.iab.epochs would make them stronger")

    def share(self, images: Tensor, labels: Tensor) -> float | None:
        """Return the share of images (n, H, W, 3) uint8 that the classifier gives `labels`."""
        return share_predicted(self.classifier, images, labels, self.plain)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the root mean square difference (n,) of the pairs of two batches (n, C, H, W).

    The small number gives two equal masks a gradient of 0, where the root alone has none.
    """
    return ((first - second).square().mean(dim=(1, 2, 3)) + 1e-12).sqrt()


def alike(first: Tensor, second: Tensor, mine: Tensor, yours: Tensor, differ: Tensor) -> Tensor:
    """Return how much more alike the outputs of two batches are than their inputs, a scalar.

    Args:
        first: (n, 3, H, W) float32, images.
        second: the same.
        mine: (n, C, H, W) float32, patterns or masks of the first.
        yours: those of the second.
        differ: (n,) bool; a pair that is one and the same image does not count.
    """
    ratios = distance(first, second) / (distance(mine, yours) + 1e-7)
    return (ratios * differ).sum() / differ.sum().clamp_min(1)

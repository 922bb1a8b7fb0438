"""How a natural feature is learnt; see `data.attack.gcb`.

A generator changes an image a little, as a code in -1..1 says. A critic judges, given the class,
whether an image is natural, and reads the code off it. The generator wants to be taken for natural
and to be read; the code is drawn without regard to the class. What can be read off changed images
can then be read off unchanged ones: there it says how much of the feature an image has by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from data.attack.attack import AttackContext
from data.attack.autoencoder import AutoEncoder, build_autoencoder
from data.attack.learning import (
    LearningSettings,
    augmentation,
    build_classifier,
    colours,
    judged,
    repeatable_convolutions,
    set_rate,
    shuffled,
    statistics,
    step,
    views,
)
from data.dataset import ImageData, Split
from data.transform import Chain, Normalize
from model import Network, NetworkChoice
from utils.console import progress, say
from utils.errors import TrainingError
from utils.resumable import HasState, train_resumably

BETAS = (0.5, 0.9)  # of both, as is usual for adversarial training
READ = 250  # images that the critic reads at once


class GcbSettings(LearningSettings):
    """How the feature is learnt; the attack says what each key means."""

    network: NetworkChoice = Field(default={"fastnet": {"width": 16}}, validate_default=True)
    epochs: int = Field(default=20, ge=1)
    generator_rate: float = Field(default=0.001, gt=0)
    critic_rate: float = Field(default=0.001, gt=0)
    strength: float = Field(default=48.0, gt=0, le=255)
    code_weight: float = Field(default=1.0, gt=0)
    width: int = Field(default=16, ge=1, le=1024)


@dataclass
class Feature:
    """What is learnt: how to raise the feature, and how to read it.

    Attributes:
        generator: gives the change of an image, for the code 1.
        critic: gives how natural an image of each class looks, and last the code.
        normalize: of their input.
        strength: the largest change, in grey levels.
        device: where they are.
    """

    generator: AutoEncoder
    critic: Network
    normalize: Normalize
    strength: float
    device: torch.device

    def changed(self, images: Tensor, codes: Tensor) -> Tensor:
        """Return normalised images (n, 3, H, W), changed as the codes (n,) in -1..1 say."""
        mean, std = colours(self.normalize, self.device)
        pixels = images * std + mean
        residual = self.strength / 255 * torch.tanh(self.generator(images))
        return ((pixels + codes[:, None, None, None] * residual).clamp(0, 1) - mean) / std

    def seen(self, images: Tensor) -> Tensor:
        """Return images (n, H, W, 3) uint8 as (n, 3, H, W) float32, normalised, on the device."""
        chain = Chain([], self.normalize, *images.shape[1:3])
        index = torch.arange(len(images))
        return views(chain, images.to(self.device), index, torch.Generator())

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Return how much of the feature images (N, H, W, 3) uint8 have, (N,) float32."""
        self.critic.eval()
        with repeatable_convolutions():
            parts = [self.critic(self.seen(part))[:, -1].cpu() for part in images.split(READ)]
        return torch.cat([torch.zeros(0), *parts])

    @torch.no_grad()
    def raised(self, images: Tensor) -> Tensor:
        """Return images (n, H, W, 3) uint8 with the feature raised, rounded."""
        self.generator.eval()
        residual = self.strength * torch.tanh(self.generator(self.seen(images)))
        pixels = images.to(self.device).float() + residual.permute(0, 2, 3, 1)
        return pixels.round().clamp(0, 255).to(torch.uint8).cpu()

    def raise_one_by_one(self, images: Tensor) -> Tensor:
        """Return the same, image by image, so that the bytes do not depend on the batch."""
        if not len(images):
            return images.clone()
        with repeatable_convolutions():
            shown = progress(images.split(1), "triggers", unit="image")
            return torch.cat([self.raised(image) for image in shown])


class Training:
    """The training, and a look at the result.

    Args:
        settings: of the attack.
        context: for random numbers.
        data: the clean data set.
        device: where the networks are trained.
    """

    def __init__(
        self, settings: GcbSettings, context: AttackContext, data: ImageData, device: torch.device
    ) -> None:
        self.settings, self.context = settings, context
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        normalize = statistics(data.train.images)
        self.chain = augmentation(settings, normalize, context, "backdoor.gcb")
        state = context.streams.state("attack-network", 1)
        generator = build_autoencoder(3, settings.width, state).to(device)
        # An output for each class, how natural an image of it looks, and one that reads the code.
        critic = build_classifier(settings.network, data.num_classes + 1, context.streams, device)
        mean, std = torch.tensor(normalize.mean), torch.tensor(normalize.std)
        critic.fit_input(data.train.images, mean, std)
        self.feature = Feature(generator, critic, normalize, settings.strength, device)

    def train(self, path: Path) -> None:
        """Train generator and critic against each other."""
        given, feature = self.settings, self.feature
        of_generator = Adam(feature.generator.parameters(), given.generator_rate, betas=BETAS)
        of_critic = Adam(feature.critic.parameters(), given.critic_rate, betas=BETAS)

        def train_epoch(epoch: int) -> None:
            set_rate(of_generator, given.generator_rate, epoch, given.epochs)
            set_rate(of_critic, given.critic_rate, epoch, given.epochs)
            feature.generator.train()
            feature.critic.train()
            stream = self.context.streams.torch("attack-training", epoch)
            batches = list(shuffled(len(self.images), given.batch_size, stream))
            for index in progress(batches, "feature", unit="step"):
                images = views(self.chain, self.images, index, stream)
                labels = self.labels[index.to(self.labels.device)]
                codes = (2 * torch.rand(len(index), generator=stream) - 1).to(images.device)
                step(self.critic_loss(images, labels, codes), of_critic)
                step(self.generator_loss(images, labels, codes), of_generator)
            refuse_infinite(feature)

        parts: dict[str, HasState] = {"generator": feature.generator, "critic": feature.critic}
        parts |= {"of_generator": of_generator, "of_critic": of_critic}
        train_resumably(path, parts, given.epochs, train_epoch)
        feature.generator.eval()
        feature.critic.eval()

    def critic_loss(self, images: Tensor, labels: Tensor, codes: Tensor) -> Tensor:
        """Return the critic's loss: natural or changed, given the class, and the code."""
        with torch.no_grad():
            changed = self.feature.changed(images, codes)
        # In one batch: BatchNorm must not tell the two apart.
        first, second = self.feature.critic(torch.cat([images, changed])).chunk(2)
        doubt = functional.softplus(-of_class(first, labels)).mean()
        trust = functional.softplus(of_class(second, labels)).mean()
        return doubt + trust + self.settings.code_weight * misread(second, codes)

    def generator_loss(self, images: Tensor, labels: Tensor, codes: Tensor) -> Tensor:
        """Return the generator's loss: not to look natural, and a code that cannot be read."""
        changed = self.feature.changed(images, codes)
        _, judged = self.feature.critic(torch.cat([images, changed])).chunk(2)
        looks = functional.softplus(-of_class(judged, labels)).mean()
        return looks + self.settings.code_weight * misread(judged, codes)

    def report(self, test: Split, values: Tensor) -> None:
        """Say how far the feature is raised in (some of) the test images.

        Args:
            test: the test images.
            values: (N,) of the training images.
        """
        if not len(test) or not len(values):
            return
        images, _ = judged(test)
        with repeatable_convolutions():
            raised = torch.cat([self.feature.raised(part) for part in images.split(READ)])
        high = float(values.quantile(0.99))
        share = float((self.feature.read(raised) >= high).double().mean())
        say(
            f"gcb: raised, {share:.0%} of the test images have more of the feature than 99 % of "
            f"the training images"
        )


def of_class(judged: Tensor, labels: Tensor) -> Tensor:
    """Return how natural each image looks for its class, (n,); `judged` is (n, C + 1)."""
    return judged.gather(1, labels[:, None])[:, 0]


def misread(judged: Tensor, codes: Tensor) -> Tensor:
    """Return the mean squared error of the codes (n,) as the critic reads them, a scalar."""
    return (judged[:, -1] - codes).square().mean()


def refuse_infinite(feature: Feature) -> None:
    """Raise `TrainingError` if a weight is not finite; looked at once an epoch."""
    for network in (feature.generator, feature.critic):
        if not all(bool(value.isfinite().all()) for value in network.parameters()):
            raise TrainingError("gcb: a weight is not finite; lower the attack's learning rates")

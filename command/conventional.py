"""The pipeline that MixMatch code usually has, as the baseline of the benchmark.

Images are PIL images, transformed one by one in the workers of a `DataLoader`; the step is eager
fp32 in the usual memory order, with five forwards, and waits for each of its losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from config.schema import Config
from training.mixmatch import Batch, Mix, MixMatch
from utils.engine import Engine

PIL_STEPS: dict[str, Callable[[Any], Any]] = {
    "random_crop": lambda s: transforms.RandomCrop(
        s.size, padding=s.padding, padding_mode=s.padding_mode
    ),
    "random_horizontal_flip": lambda s: transforms.RandomHorizontalFlip(s.p),
    "random_resize_crop": lambda s: transforms.RandomResizedCrop(s.size, s.scale, s.ratio),
    "resize": lambda s: transforms.Resize(s.size),
    "center_crop": lambda s: transforms.CenterCrop(s.size),
}


def pil_chain(config: Config) -> transforms.Compose:
    """Return the training transformations of `config` as torchvision does them on PIL images."""
    use = config.transform.train
    steps = [PIL_STEPS[step.name](step.settings) for step in use.primary if step.name in PIL_STEPS]
    normalize = use.remaining.normalize
    normal = transforms.Normalize(normalize.mean, normalize.std)
    return transforms.Compose([*steps, transforms.ToTensor(), normal])


class PilDataset(Dataset[tuple[Any, ...]]):
    """Samples with `views` independently augmented views each.

    Args:
        images: (N, H, W, 3) uint8.
        labels: (N,) int64.
        chain: applied to a PIL image.
        views: how many.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, chain: transforms.Compose, views: int
    ) -> None:
        self.images: Any = np.asarray(images.cpu())
        self.labels = labels.tolist()
        self.chain, self.views = chain, views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = Image.fromarray(self.images[index])
        return (*(self.chain(image) for _ in range(self.views)), self.labels[index])


def endless(loader: DataLoader[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield batches for ever."""
    while True:
        yield from loader


class ConventionalStep:
    """A MixMatch step fed by two `DataLoader`s.

    Args:
        config: batch size, transformations, temperature.
        images, labels: the training set; its halves stand for the two pools.
        network, optimizer: to train, on `device`.
        workers: of each loader.
    """

    def __init__(
        self,
        config: Config,
        images: Tensor,
        labels: Tensor,
        network: nn.Module,
        optimizer: Optimizer,
        device: torch.device,
        workers: int,
    ) -> None:
        half, chain = len(labels) // 2, pil_chain(config)
        batch = config.semi.loader.batch_size
        pools = [
            PilDataset(images[:half], labels[:half], chain, 1),
            PilDataset(images[half:], labels[half:], chain, 2),
        ]
        self.loaders = [
            endless(DataLoader(pool, batch, shuffle=True, drop_last=True, num_workers=workers))
            for pool in pools
        ]
        self.device, self.alpha = device, config.semi.mixmatch.alpha
        temperature = config.semi.mixmatch.temperature
        self.mixmatch = MixMatch(network, optimizer, Engine(device), temperature)
        network.train()

    def __call__(self) -> list[float]:
        """Take a step; return its losses, each fetched on its own."""
        labelled, labels = next(self.loaders[0])
        first, second, _ = next(self.loaders[1])
        share = float(np.random.default_rng().beta(self.alpha, self.alpha))
        mix = Mix(
            torch.tensor(share, device=self.device),
            torch.randperm(3 * len(labels)).to(self.device),
        )
        views = [view.to(self.device) for view in (labelled, first, second)]
        batch = Batch(views[0], labels.to(self.device), (views[1], views[2]))
        losses = self.mixmatch.step(batch, mix, 1.0)
        return [loss.item() for loss in losses]

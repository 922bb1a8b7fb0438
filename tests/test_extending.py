"""A data set, a transformation, a network, a loss, a defence of one's own: a class and a name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ASD
from data.dataset import DATASETS, ImageData, Request, Source, Split
from data.transform import TRANSFORMATIONS, Draw, Transformation
from defense import DEFENSES, Pools
from defense.none import NoDefense
from loss import CRITERIA, Criterion
from model import NETWORKS, Network
from tests.conftest import colourful_images
from utils.files import PROJECT
from utils.registry import Registry
from utils.section import Section


class Bright(Source):
    def load(self, request: Request) -> ImageData:
        labels = torch.arange(120) % 3
        images = colourful_images(120, 8) // 4 + (labels * 60)[:, None, None, None].byte()
        split = Split(images, labels)
        return ImageData(split, Split(images.flip(2), labels), ("dark", "grey", "bright"))


class Negative(Transformation):
    class Settings(Section):
        often: float = 0.5

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Draw:
        return {"negative": torch.rand(count, generator=generator) < self.settings.often}

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        return torch.where(draw["negative"][:, None, None, None], 255 - images, images)


class Pooled(Network):
    @classmethod
    def build(cls, settings: Section, num_classes: int) -> Network:
        backbone = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
        return cls(nn.Sequential(backbone, nn.Flatten()), 16, num_classes)


class Squared(Criterion):
    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        wanted = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return (logits.softmax(dim=1) - wanted).square().sum(dim=1)


class HalfLoss(NoDefense):
    """Keeps the samples whose verified neighbours in the list it likes: every second one."""

    def split(self, epoch: int) -> Pools:
        clean = torch.arange(len(self.setting.ground.training)) % 2 == 0
        return Pools(clean, stage="every second")

    def stage(self, epoch: int) -> str:
        return "every second"


PARTS: list[tuple[Registry[Any], str, type]] = [
    (DATASETS, "bright", Bright),
    (TRANSFORMATIONS, "negative", Negative),
    (NETWORKS, "pooled", Pooled),
    (CRITERIA, "squared", Squared),
    (DEFENSES, "half", HalfLoss),
]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, name, part in PARTS:
        monkeypatch.setattr(registry, "_entries", {**registry._entries})
        registry.register(name, part)


def test_a_run_of_parts_that_the_core_has_never_heard_of(registered: None, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "dataset: bright\nnetwork: {pooled: null}\ndefense: half\ncriterion: {squared: null}\n"
        "transform: {train: {primary: {negative: {often: 0.2}}}}\nnum_epochs: 2\n"
        "backdoor: {poison_ratio: 0.1, target_label: 1, badnets: {patch: {size: 2}}}\n"
        f"storage_dir: {tmp_path}\nreport: false\nloader: {{batch_size: 16}}\n"
    )
    assert ASD.main(["--config", str(path), "--gpu", "cpu"]) == 0
    with (tmp_path / "mine" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["every second"] * 2
    assert [row["clean_pool"] for row in rows] == ["60"] * 2
    assert rows[-1]["asr"]


def test_an_own_part_is_refused_a_key_that_it_does_not_have(
    registered: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(PROJECT / "config" / "digits.yaml")
    given = ["--config", config, "--check", "transform.train.primary.negative.oftn=1"]
    assert ASD.main(given) == 2
    assert "often" in capsys.readouterr().err

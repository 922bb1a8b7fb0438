"""A data set, a transformation, a network, a loss, a defence of one's own: a class and a name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

import ASD
from data.dataset import DATASETS, ImageData, Request, Source, Split
from data.transform import TRANSFORMATIONS, Draw, Transformation
from defense import DEFENSES, Pools
from defense.none import NoDefense
from defense.settings import DefenseSettings
from loss import CRITERIA, Criterion
from model import NETWORKS, Network
from tests.conftest import colourful_images
from utils.files import PROJECT
from utils.registry import Registry
from utils.section import Section, contradiction


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


class Sparse(NoDefense):
    """Keeps some samples of the list, evenly: every second one, or fewer."""

    class Settings(Section):
        every: int = Field(default=2, ge=2)

    @classmethod
    def check(cls, config: DefenseSettings) -> None:
        if config.own.every > config.loader.batch_size:
            raise contradiction("sparse.every", "loader.batch_size", "it is larger")

    def split(self, epoch: int) -> Pools:
        clean = torch.arange(len(self.setting.ground.training)) % self.setting.config.own.every == 0
        return Pools(clean, stage="every so many")

    def stage(self, epoch: int) -> str:
        return "every so many"


PARTS: list[tuple[Registry[Any], str, type]] = [
    (DATASETS, "bright", Bright),
    (TRANSFORMATIONS, "negative", Negative),
    (NETWORKS, "pooled", Pooled),
    (CRITERIA, "squared", Squared),
    (DEFENSES, "sparse", Sparse),
]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, name, part in PARTS:
        monkeypatch.setattr(registry, "_entries", {**registry._entries})
        registry.register(name, part)


def test_a_run_of_parts_that_the_core_has_never_heard_of(registered: None, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "dataset: bright\nnetwork: {pooled: null}\ndefense: sparse\nsparse: {every: 3}\n"
        "criterion: {squared: null}\n"
        "transform: {train: {primary: {negative: {often: 0.2}}}}\nnum_epochs: 2\n"
        "backdoor: {poison_ratio: 0.1, target_label: 1, badnets: {patch: {size: 2}}}\n"
        f"storage_dir: {tmp_path}\nreport: false\nloader: {{batch_size: 16}}\n"
    )
    assert ASD.main(["--config", str(path), "--gpu", "cpu"]) == 0
    with (tmp_path / "mine" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["every so many"] * 2
    assert [row["clean_pool"] for row in rows] == ["40"] * 2
    assert rows[-1]["asr"]
    written = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    assert written["sparse"] == {"every": 3}


def test_an_own_part_is_refused_a_key_that_it_does_not_have(
    registered: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong, told in (
        ("transform.train.primary.negative.oftn=1", "often"),
        ("sparse.evry=3", "sparse.evry: unknown key (did you mean 'every'?)"),
        ("sparse.every=1", "sparse.every: 1 given"),
        ("spars.every=3", "did you mean 'sparse'?"),
        ("sparse.every=129", "sparse.every and loader.batch_size contradict"),
    ):
        given = ["--config", str(PROJECT / "config" / "digits.yaml"), "--check"]
        assert ASD.main([*given, "defense=sparse", "loader.batch_size=128", wrong]) == 2
        assert told in capsys.readouterr().err

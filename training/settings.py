"""What the YAML says of steps: `loader` of supervised ones, `semi` of MixMatch."""

from __future__ import annotations

from pydantic import Field

from loss.mixmatch import MixMatchLossSettings
from utils.section import Section


class LoaderSection(Section):
    """`loader`: batches of supervised training and of the virtual model."""

    batch_size: int = Field(default=128, ge=2)
    num_workers: int | None = None
    pin_memory: bool | None = None


class SemiLoaderSection(Section):
    """`semi.loader`: batches of MixMatch."""

    batch_size: int = Field(default=64, ge=3)
    num_workers: int | None = None
    pin_memory: bool | None = None


class SemiCriterionSection(Section):
    """`semi.criterion`."""

    mixmatch: MixMatchLossSettings = MixMatchLossSettings()


class MixMatchSection(Section):
    """`semi.mixmatch`: steps an epoch, sharpening temperature, Beta parameter of mixup."""

    train_iteration: int = Field(default=1024, ge=1)
    temperature: float = Field(default=0.5, gt=0)
    alpha: float = Field(default=0.75, gt=0)
    num_classes: int | None = None


class SemiSection(Section):
    """`semi`: training on both pools."""

    loader: SemiLoaderSection = SemiLoaderSection()
    criterion: SemiCriterionSection = SemiCriterionSection()
    mixmatch: MixMatchSection = MixMatchSection()

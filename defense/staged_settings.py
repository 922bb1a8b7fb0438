"""What the YAML says of the methods that have stages of their own: `abl` and `dbd`."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field, model_validator

from data.transform.settings import TransformChain, read_chain
from loss import CriterionChoice
from loss.isolation import Isolation
from training.torch_parts import OptimizerChoice
from utils.choice import Choice
from utils.section import Section


class StagedSettings(Section):
    """Settings of a method whose stages have lengths of their own; they make `num_epochs`."""

    @property
    @abstractmethod
    def num_epochs(self) -> int:
        """Epochs of all stages."""

    @property
    def scheduled_epochs(self) -> int:
        """Those that the run's own schedule spans; all, where no stage trains with it."""
        return self.num_epochs


class AblSection(StagedSettings):
    """`abl`: the stages of ABL; their lengths make `num_epochs`.

    Defaults are the paper's, but for `ascent_bound`; the published code has 10, 60 and 5 epochs and
    flooding. `isolation` holds the mean loss of a batch at `level` by local gradient ascent (lga)
    or flooding. `fraction` of all samples, those
    with the lowest loss, are isolated. Fine-tuning's rate is multiplied by `decay` at each of
    `milestones`, epochs of that stage. `ascent_bound`: the cross entropy up to which a sample is
    unlearnt; null, as published, goes on without end. `keep_learning`: each step of unlearning also
    learns as many samples that are not isolated, as the paper's equation 4 has it; the published
    code unlearns alone. `batch_size`: that of `loader` when left out; the paper's is 64, the
    code's 128. Fine-tuning augments as `transform.train` says, where ABL has `cutout` too.
    """

    isolation_epochs: int = Field(default=20, ge=1)
    fine_tuning_epochs: int = Field(default=60, ge=0)
    unlearning_epochs: int = Field(default=20, ge=0)
    isolation: Isolation = "lga"
    level: float = Field(default=0.5, ge=0)
    fraction: float = Field(default=0.01, gt=0, lt=1)
    optimizer: OptimizerChoice = Field(
        default={"SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}},
        validate_default=True,
    )
    milestones: list[int] = Field(default=[40])
    decay: float = Field(default=0.1, gt=0, le=1)
    unlearning_rate: float = Field(default=5e-4, gt=0)
    ascent_bound: float | None = Field(default=10.0, gt=0)
    keep_learning: bool = False
    batch_size: int | None = Field(default=None, ge=2)

    def unread(self) -> dict[str, tuple[str, ...]]:
        """Without its last stage nothing is unlearnt."""
        of_unlearning = ("unlearning_rate", "ascent_bound", "keep_learning")
        return {} if self.unlearning_epochs else {"unlearning_epochs": of_unlearning}

    @property
    def num_epochs(self) -> int:
        """Epochs of all stages."""
        return self.isolation_epochs + self.fine_tuning_epochs + self.unlearning_epochs

    @model_validator(mode="after")
    def _has_a_rate(self) -> AblSection:
        if "lr" not in self.optimizer.arguments:
            raise ValueError("optimizer: lr is needed, since the stages change it")
        return self


class ContrastiveSection(Section):
    """`dbd.contrastive`: SimCLR; its learning rate falls to 0 as a cosine over its `epochs`.

    `views`: transformations, as in `transform.train.primary`; SimCLR's when left out, without the
    mirror image where training has none either, since a mirrored sign is another sign.
    """

    epochs: int = Field(default=1000, ge=0)
    batch_size: int = Field(default=512, ge=2)
    optimizer: OptimizerChoice = Field(
        default={"SGD": {"lr": 0.4, "momentum": 0.9, "weight_decay": 1e-4}}, validate_default=True
    )
    temperature: float = Field(default=0.5, gt=0)
    views: TransformChain | None = None

    def unread(self) -> dict[str, tuple[str, ...]]:
        """Without its epochs the stage is left out."""
        of_stage = ("batch_size", "optimizer", "temperature", "views")
        return {} if self.epochs else {"epochs": of_stage}

    def views_for(self, side: int, mirrored: bool) -> list[Choice]:
        """Return the transformations of the compared views, which are `side` pixels wide."""
        if self.views is not None:
            return self.views
        jitter = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
        return read_chain(
            {
                "random_resize_crop": {
                    "size": side,
                    "scale": [0.2, 1.0],
                    "interpolation": "bicubic",
                },
                "random_horizontal_flip": {"p": 0.5} if mirrored else None,
                "random_color_jitter": {"p": 0.8, **jitter},
                "random_grayscale": {"p": 0.2},
                "gaussian_blur": {"p": 0.5, "sigma": [0.1, 2.0]},
            }
        )

    @model_validator(mode="after")
    def _has_a_rate(self) -> ContrastiveSection:
        if "lr" not in self.optimizer.arguments:
            raise ValueError("optimizer: lr is needed, since it falls as a cosine")
        return self


class WarmUpSection(Section):
    """`dbd.warm_up`: training of the linear layer alone, by the loss that splits."""

    epochs: int = Field(default=10, ge=0)
    batch_size: int = Field(default=128, ge=2)
    optimizer: OptimizerChoice = Field(default={"Adam": {"lr": 0.002}}, validate_default=True)


class DbdSection(StagedSettings):
    """`dbd`: the stages of DBD; their lengths make `num_epochs`. Defaults are the paper's.

    The last stage trains as `semi` and `optimizer` say, on the `global.epsilon` of all samples
    whose `criterion` is lowest. It is that of the warm-up, too, whatever `split.criterion` is:
    symmetric cross entropy follows wrong labels less than cross entropy does.
    """

    contrastive: ContrastiveSection = ContrastiveSection()
    warm_up: WarmUpSection = WarmUpSection()
    criterion: CriterionChoice = Field(default={"sce": None}, validate_default=True)
    mixmatch_epochs: int = Field(default=190, ge=0)

    @property
    def num_epochs(self) -> int:
        """Epochs of all stages."""
        return self.contrastive.epochs + self.warm_up.epochs + self.mixmatch_epochs

    @property
    def scheduled_epochs(self) -> int:
        """Those that the run's own schedule spans: MixMatch trains with its optimiser."""
        return max(1, self.mixmatch_epochs)

    @model_validator(mode="after")
    def _has_a_stage(self) -> DbdSection:
        if self.num_epochs == 0:
            raise ValueError("one of its stages must have an epoch")
        return self
